"""An agent with one tool."""

from netra_apex import Apex, Context


def shout(word: str) -> str:
    return word + "!"


async def hello(text: str, context: Context) -> str:
    return await context.call(shout, word=text)


print(Apex(agents=[hello], tools=[shout]).run("hello").text)
