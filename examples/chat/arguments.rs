//! What the command line says.

use std::net::SocketAddr;
use std::path::PathBuf;

/// How the example is called.
pub(crate) const USAGE: &str = "\
usage: chat [--listen ADDRESS:PORT] [--config FILE] [--db FILE]

  --listen   where to serve the page; an address of this machine's loopback (default 127.0.0.1:8000)
  --config   a configuration; the environment (APEX_DATABASE_URL=postgres://… and the like) holds over it
  --db       the SQLite file that keeps everything (default the configured database, else apex-chat.db)";

/// The parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) listen: SocketAddr,
    pub(crate) config: Option<PathBuf>,
    pub(crate) database: Option<PathBuf>,
}

impl Arguments {
    /// Reads the arguments after the program's name; `None` asks for help.
    ///
    /// # Errors
    /// A sentence for the user.
    pub(crate) fn parse(
        arguments: impl IntoIterator<Item = String>,
    ) -> Result<Option<Self>, String> {
        let mut parsed =
            Self { listen: SocketAddr::from(([127, 0, 0, 1], 8000)), config: None, database: None };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            if argument == "--help" || argument == "-h" {
                return Ok(None);
            }
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--listen" => {
                    let text = value()?;
                    parsed.listen = text
                        .parse()
                        .map_err(|_| format!("--listen {text}: not an address with a port"))?;
                }
                "--config" => parsed.config = Some(value()?.into()),
                "--db" => parsed.database = Some(value()?.into()),
                other => return Err(format!("unknown argument {other}")),
            }
        }
        // The development login lets anyone in under any name.
        if !parsed.listen.ip().is_loopback() {
            return Err(format!(
                "--listen {}: this example serves this machine only",
                parsed.listen
            ));
        }
        Ok(Some(parsed))
    }
}
