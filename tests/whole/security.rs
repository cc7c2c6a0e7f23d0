//! What `docs/security.md` and `docs/wire.md` promise names the tests that show it.

use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_test_that_the_security_page_names_is_there() {
    assert_tests_are_there("docs/security.md");
}

#[test]
fn every_test_that_the_page_of_the_wire_names_is_there() {
    assert_tests_are_there("docs/wire.md");
}

fn assert_tests_are_there(page: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["apex-core/src", "apex-core/tests", "apex-transport/src", "apex-transport/tests"]
    {
        sources(&root.join(folder), &mut files);
    }
    let page = std::fs::read_to_string(root.join(page)).unwrap();
    let named: Vec<(&str, &str)> = page
        .split('`')
        .filter_map(|word| word.split_once("::"))
        // The target of the log is no test.
        .filter(|(module, _)| *module != "apex")
        .filter(|(module, _)| module.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        .collect();
    assert!(named.len() > 40, "the page is not read as it should be");
    for (module, test) in named {
        let shows = |path: &PathBuf| {
            let file = path.with_extension("");
            let of_module = file.ancestors().take(3).any(|part| part.ends_with(module));
            let source = std::fs::read_to_string(path).unwrap();
            (of_module || source.contains(&format!("mod {module} {{")))
                && source.contains(&format!("fn {test}("))
        };
        assert!(files.iter().any(shows), "{module}::{test} is named and not there");
    }
}
