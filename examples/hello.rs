//! A team of one agent with one tool of its own.

use netra_apex::prelude::*;

#[tokio::main]
async fn main() -> Result<()> {
    let shout = tool_fn("shout", "Louder.", |word: String, _| async move { Ok(word + "!") });
    let hello = agent_fn("hello", "Greets.", |ask: Request, context| async move {
        context.call::<String>("shout", ask.text).await
    });
    let apex = Apex::builder().agent(hello).tool(shout).build().await?;
    println!("{}", apex.ask(&apex.user("ada").await?, "hello").await?.text);
    Ok(())
}
