//! How a node is doing, told before it hurts: probes of what it depends on, breaker states, certificates that end,
//! service levels whose budget burns, and resources that run out.
//!
//! [`Health`] puts it together, as a method, as `application/health+json` and as metrics.

mod certificate;
mod config;
pub mod degraded;
mod file;
pub mod forecast;
mod level;
pub mod metric;
mod notice;
mod observer;
mod probe;
mod resource;
mod status;
mod stores;
mod watch;

pub use certificate::{CertificateFile, CertificateSource, CertificateStatus, Validity};
pub use config::HealthConfig;
pub use file::FileProbe;
pub use level::{LevelStatus, RunResult, Urgency};
pub use observer::Observer;
pub use probe::Probe;
pub use resource::{Eta, Outlook, Resource};
pub use status::{HealthDocument, Line, Status};
pub use watch::{BreakerSource, Health, HealthReport};
