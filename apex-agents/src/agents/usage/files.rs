use crate::tool::{Effect, Tool, ToolContext, tool_fn};
use apex_core::error::Result;
use apex_core::file::Content;
use apex_core::id::FileId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

/// The files that belonged to an earlier message.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::agents) struct EarlierFiles {
    pub(in crate::agents) files: Vec<FileId>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Nothing {}

/// The files of the conversation's last message that had some: what a question without a file is about.
pub(in crate::agents) fn earlier_files() -> impl Tool {
    tool_fn(
        "earlier_files",
        "Finds the files that were last brought to this conversation.",
        |_: Nothing, call: ToolContext| async move {
            let files: Vec<FileId> = call.earlier_files().await?;
            call.summarise(match files.len() {
                0 => "no file was brought to this conversation yet".to_owned(),
                1 => "one file was brought before".to_owned(),
                n => format!("{n} files were brought before"),
            });
            Ok(EarlierFiles { files })
        },
    )
    .effect(Effect::Read)
}

/// A user's files, opened to be read one after the other.
pub(super) struct Opened {
    files: Vec<(String, u64, Content)>,
}

impl Opened {
    pub(super) async fn all(files: &[FileId], call: &ToolContext) -> Result<Self> {
        let mut opened = Vec::with_capacity(files.len());
        for file in files {
            let info = call.file(*file).await?;
            opened.push((info.name, info.bytes, call.open(*file).await?));
        }
        Ok(Self { files: opened })
    }

    /// Reads each file with `read`, which is handed its name, its content and where to say how far it is; told to
    /// stop there when the call is cancelled.
    pub(super) fn read(
        self,
        call: &ToolContext,
        mut read: impl FnMut(&str, Content, &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<()>,
    ) -> Result<()> {
        let total: u64 = self.files.iter().map(|(_, bytes, _)| bytes).sum();
        let mut before = 0;
        for (name, bytes, content) in self.files {
            read(&name, content, &mut |done| {
                call.progress(before + done, Some(total), "bytes");
                match call.is_cancelled() {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })?;
            before += bytes;
            call.progress(before, Some(total), "bytes");
        }
        Ok(())
    }
}
