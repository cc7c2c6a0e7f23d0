use netra_apex::agents::cost::{
    Analysis, AnalysisOptions, Catalogue, Inspection, Report, Verification, inspect,
};
use netra_apex::core::error::{Error, Kind, Result};
use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A usage file.
#[derive(Debug, Clone)]
pub enum Content {
    /// On the disk.
    Path(PathBuf),
    /// In memory, with its name.
    Bytes(String, Arc<[u8]>),
}

impl Content {
    fn name(&self) -> String {
        match self {
            Self::Path(path) => path
                .file_name()
                .map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into()),
            Self::Bytes(name, _) => name.clone(),
        }
    }

    fn open(&self) -> Result<Box<dyn Read + Send + '_>> {
        match self {
            Self::Path(path) => Ok(Box::new(open(path)?)),
            Self::Bytes(_, bytes) => Ok(Box::new(&**bytes)),
        }
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| {
        let told = "the usage file cannot be opened";
        Error::new(Kind::BadData, "usage.open", told)
            .with("file", path.display())
            .with_source(error)
    })
}

/// Analyses usage files and verifies the report, at a contract's prices where there is one. It computes and blocks: call
/// it on a thread for that. `observe` is told how many bytes were read, over both passes, and can stop it.
///
/// # Errors
/// `bad_data` for a file that is not there or a bad contract; `cancelled`; `bad_figures` for figures that do not add
/// up when computed a second way.
pub fn analyse(
    files: &[Content],
    contract: Option<&[u8]>,
    observe: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Report> {
    let mut catalogue = Catalogue::embedded()?;
    if let Some(contract) = contract {
        catalogue = catalogue.with_contract(contract)?;
    }
    let catalogue = Arc::new(catalogue);
    let mut before = 0;
    let mut analysis = Analysis::new(Arc::clone(&catalogue), AnalysisOptions::default());
    for file in files {
        let mut read = 0;
        analysis.add(&file.name(), file.open()?, &mut |progress| {
            read = progress.bytes;
            observe(before + read)
        })?;
        before += read;
    }
    let report = analysis.finish();
    let mut verification = Verification::new(&report, catalogue);
    for file in files {
        let mut read = 0;
        verification.add(&file.name(), file.open()?, &mut |progress| {
            read = progress.bytes;
            observe(before + read)
        })?;
        before += read;
    }
    verification.finish()?;
    Ok(report)
}

/// A cheap look at the beginning of a usage file: what it is, which columns it has, what is missing.
///
/// # Errors
/// `bad_data` for a file that is not there.
pub fn look(file: &Content) -> Result<Inspection> {
    inspect(&file.name(), file.open()?)
}
