use crate::support::{assert_success, example, text};

const SOURCE: &str = include_str!("../../examples/hello.rs");

fn program() -> &'static str {
    SOURCE.split_once("\n\n").map_or(SOURCE, |(_, program)| program)
}

#[test]
fn it_greets() {
    let output = std::process::Command::new(example("hello")).output().unwrap();
    assert_success(&output);
    assert_eq!(text(&output.stdout), "hello!\n");
}

#[test]
fn a_hello_with_a_tool_of_ones_own_takes_at_most_twelve_lines() {
    assert!(
        program().lines().filter(|line| !line.trim().is_empty()).count() <= 12,
        "{}",
        program()
    );
}

#[test]
fn the_readme_shows_the_program_that_runs() {
    assert!(
        include_str!("../../README.md").contains(program()),
        "copy examples/hello.rs into README.md"
    );
}
