//! Orders by standard input, one a line; each is answered by one line.

use crate::Outcome;
use std::io::Write as _;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin};

/// The orders of the one who measures.
pub(crate) struct Steps(Lines<BufReader<Stdin>>);

impl Steps {
    pub(crate) fn new() -> Self {
        Self(BufReader::new(tokio::io::stdin()).lines())
    }

    /// The next order, its words apart; `None` at the end.
    pub(crate) async fn next(&mut self) -> Outcome<Option<Vec<String>>> {
        let line = self.0.next_line().await?;
        Ok(line.map(|line| line.split_whitespace().map(str::to_owned).collect()))
    }
}

/// Answers.
pub(crate) fn tell(answer: &serde_json::Value) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{answer}")?;
    Ok(out.flush()?)
}
