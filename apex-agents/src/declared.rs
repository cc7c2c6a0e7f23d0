//! Agents that are declared: instructions, tools and the type of the output. The engine runs the loop.

use crate::agent::{Agent, AgentOutput, Request};
use crate::agents::asking::{self, Checked, Terms, Turns};
use crate::context::Context;
use crate::prompt;
use crate::tool::Shape;
use apex_core::error::{Error, Kind, Result};
use apex_core::event::{RunResult, RunStatus};
use async_trait::async_trait;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::fmt;
use std::time::Duration;

/// How often a model may call tools before it has to answer, unless an agent says otherwise.
const TURNS: u32 = 16;

/// An agent by what it is told, what it may call and what it makes; it answers the user in words unless it
/// [says](Declared::output) what else it makes.
///
/// ```
/// use apex_agents::{Registry, ToolContext, agent, tool_fn};
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Add { a: i64, b: i64 }
/// let registry = Registry::default()
///     .tool(tool_fn("add", "Adds two numbers.", |n: Add, _: ToolContext| async move { Ok(n.a + n.b) }))
///     .agent(agent("sums").instructions("Answer questions about sums. Add by the tool, never yourself.").tools(["add"]));
/// # let _ = registry;
/// ```
pub fn agent(name: impl Into<String>) -> Declared<RunResult> {
    let name = name.into();
    Declared {
        purpose: format!("{name} answers."),
        told: Told { instructions: String::new(), tools: Vec::new(), turns: TURNS },
        takes: Vec::new(),
        needs: Vec::new(),
        deadline: None,
        triggers: Vec::new(),
        output: Output { read: words, schema: None, shown: true },
        otherwise: Some(Box::new(unanswered)),
        name,
    }
}

/// An agent that the engine carries out by itself: it asks the models, checks what they answer, makes the calls that
/// they want, hands the results back, and has one answer of the wrong form put right. [`agent`] makes it.
///
/// All that it has done is in the journal of its effects, and it has no code that could run twice: a run that was lost,
/// or that waited for days until somebody approved a call, goes on at the very effect it had got to.
///
/// Calls that a model wants at the same time are made side by side where the [effects](crate::Effect) of their tools
/// allow it, and their results are handed back in the order in which they were asked for. What goes wrong with a call,
/// also that a person denied it, the model is told.
pub struct Declared<O> {
    name: String,
    purpose: String,
    told: Told,
    /// Whose results it takes, and of these whose it cannot work without.
    takes: Vec<String>,
    needs: Vec<String>,
    deadline: Option<Duration>,
    triggers: Vec<String>,
    output: Output<O>,
    otherwise: Option<Otherwise<O>>,
}

#[derive(Debug)]
struct Told {
    instructions: String,
    tools: Vec<String>,
    turns: u32,
}

/// What an answer of a model's is to be.
struct Output<O> {
    read: fn(&str) -> std::result::Result<O, String>,
    /// For an answer that is no words.
    schema: Option<Value>,
    shown: bool,
}

type Otherwise<O> = Box<dyn Fn(&Request, &str) -> O + Send + Sync>;

impl<O> Declared<O> {
    /// Says what it is for, in a sentence that users read.
    #[must_use]
    pub fn purpose(mut self, purpose: impl Into<String>) -> Self {
        self.purpose = purpose.into();
        self
    }

    /// Says what it is told before it is asked. What the user wrote and what other agents made follow as data; so do
    /// results of tools.
    #[must_use]
    pub fn instructions(mut self, instructions: impl Into<String>) -> Self {
        self.told.instructions = instructions.into();
        self
    }

    /// Says which tools of the registry it may call; `server__*` are all that an MCP server has when a step begins.
    #[must_use]
    pub fn tools<T: Into<String>>(mut self, tools: impl IntoIterator<Item = T>) -> Self {
        self.told.tools = tools.into_iter().map(Into::into).collect();
        self
    }

    /// Says how often the models may call tools before they have to answer; 16 unless said otherwise.
    #[must_use]
    pub fn turns(mut self, most: u32) -> Self {
        self.told.turns = most;
        self
    }

    /// Says without whose results it cannot work. It is handed them, and plans put these agents before it.
    #[must_use]
    pub fn needs<T: Into<String>>(mut self, agents: impl IntoIterator<Item = T>) -> Self {
        self.needs = agents.into_iter().map(Into::into).collect();
        self
    }

    /// Says whose results it takes where they are there.
    #[must_use]
    pub fn takes<T: Into<String>>(mut self, agents: impl IntoIterator<Item = T>) -> Self {
        self.takes = agents.into_iter().map(Into::into).collect();
        self
    }

    /// Says how long a step of it may take, where that differs from the engine's default.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Says by which words and phrases a question is one for it. See [`Agent::triggers`].
    #[must_use]
    pub fn triggers<T: Into<String>>(mut self, phrases: impl IntoIterator<Item = T>) -> Self {
        self.triggers = phrases.into_iter().map(Into::into).collect();
        self
    }

    /// Says what it makes instead of words: its JSON Schema goes into the instructions, and the answer is held against
    /// it; a model has one chance to put right what does not fit. Where no model answers its step fails, unless it
    /// [says](Declared::otherwise) what it makes then.
    #[must_use]
    pub fn output<T: AgentOutput + DeserializeOwned>(self) -> Declared<T> {
        Declared {
            name: self.name,
            purpose: self.purpose,
            told: self.told,
            takes: self.takes,
            needs: self.needs,
            deadline: self.deadline,
            triggers: self.triggers,
            output: Output { read: value, schema: Some(schema_of::<T>()), shown: false },
            otherwise: None,
        }
    }

    /// Says what it makes of a request where there is no model, or none whose answer could be used; why is handed over,
    /// and stands in the run's result as well.
    #[must_use]
    pub fn otherwise(mut self, make: impl Fn(&Request, &str) -> O + Send + Sync + 'static) -> Self {
        self.otherwise = Some(Box::new(make));
        self
    }

    /// The instructions, what is data, and the form of the answer.
    fn system(&self) -> String {
        let mut system = format!("{}\n\n{}", self.told.instructions.trim(), prompt::DECLARED);
        if let Some(schema) = &self.output.schema {
            system += &format!(
                "\nAnswer with one JSON object of this JSON Schema and nothing else: no words around it.\n{schema}\n"
            );
        }
        system
    }
}

#[async_trait]
impl<O: AgentOutput> Agent for Declared<O> {
    type Input = Value;
    type Output = O;

    fn name(&self) -> &str {
        &self.name
    }

    fn purpose(&self) -> &str {
        &self.purpose
    }

    fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    fn tools(&self) -> &[String] {
        &self.told.tools
    }

    fn triggers(&self) -> &[String] {
        &self.triggers
    }

    fn input_schema(&self) -> Value {
        let agents = self.needs.iter().chain(&self.takes).map(|agent| (agent.clone(), json!({})));
        let mut properties: Map<String, Value> = agents.collect();
        properties.insert("text".to_owned(), json!({"type": "string"}));
        properties.insert("files".to_owned(), json!({"type": "array"}));
        json!({"type": "object", "properties": properties, "required": self.needs})
    }

    async fn run(&self, input: Value, run: Context) -> Result<O> {
        let mut request = asking::request(&self.system(), &input);
        request.tools = run.tools(&self.told.tools);
        let shape = self.output.schema.as_ref().and_then(|schema| Shape::compile(schema).ok());
        let terms = Terms {
            accept: |text: &str| {
                if let Some(shape) = &shape {
                    let value: Value = asking::parsed(text).map_err(|fault| vec![fault])?;
                    shape.faults(&value).map_or(Ok(()), |faults| Err(vec![faults]))?;
                }
                (self.output.read)(text).map_err(|fault| vec![fault])
            },
            thought: |faults: &[String]| {
                Some(format!("I do not take the model's answer: {}.", faults.join("; ")))
            },
            again: "Answer again.",
        };
        let turns = Turns { most: self.told.turns, shown: self.output.shown };
        let why = match asking::checked(&run, request, turns, terms).await? {
            Checked::Accepted(made) => return Ok(made),
            Checked::NoModel => "there is no model".to_owned(),
            Checked::Failed(why) => format!("the models did not answer: {why}"),
            Checked::Refused(faults) => {
                format!("what a model answered could not be used: {}", faults.join("; "))
            }
        };
        let Some(otherwise) = &self.otherwise else {
            let told = format!("{} works by a model, and {why}", self.name);
            return Err(Error::new(Kind::Unavailable, "agent.run", told));
        };
        run.degraded(format!("{} works by a model, and {why}.", self.name)).await?;
        let asked = Request::deserialize(&input).map_err(|error| {
            Error::internal("agent.run", "a request could not be read").with_source(error)
        })?;
        Ok(otherwise(&asked, &why))
    }
}

impl<O> fmt::Debug for Declared<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Agent({})", self.name)
    }
}

fn schema_of<T: schemars::JsonSchema>() -> Value {
    schemars::schema_for!(T).to_value()
}

fn words(text: &str) -> std::result::Result<RunResult, String> {
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(RunResult {
        status: RunStatus::Answered,
        text: text.trim().to_owned(),
        artifacts: Vec::new(),
    })
}

fn value<T: DeserializeOwned>(text: &str) -> std::result::Result<T, String> {
    asking::parsed(text)
}

fn unanswered(_: &Request, why: &str) -> RunResult {
    RunResult {
        status: RunStatus::InsufficientData,
        text: format!("This was not answered: it takes a model, and {why}."),
        artifacts: Vec::new(),
    }
}
