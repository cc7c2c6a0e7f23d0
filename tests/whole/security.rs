//! What `docs/security.md` promises names the tests that show it.

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
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["apex-core/src", "apex-core/tests", "apex-transport/src", "apex-transport/tests"]
    {
        sources(&root.join(folder), &mut files);
    }
    let page = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
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
            let of_module = path.file_stem().is_some_and(|stem| stem == module);
            let source = std::fs::read_to_string(path).unwrap();
            (of_module || source.contains(&format!("mod {module} {{")))
                && source.contains(&format!("fn {test}("))
        };
        assert!(files.iter().any(shows), "{module}::{test} is named and not there");
    }
}
