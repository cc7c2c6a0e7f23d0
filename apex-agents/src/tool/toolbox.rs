use super::{Ready, ToolSource};
use crate::model::ToolSpec;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The tools that there are, as models see them.
#[derive(Debug, Default)]
pub(crate) struct Toolbox {
    specs: BTreeMap<String, ToolSpec>,
    sources: Vec<Arc<dyn ToolSource>>,
}

impl Toolbox {
    pub(crate) fn new<'a>(
        tools: impl Iterator<Item = (&'a String, &'a Ready)>,
        sources: Vec<Arc<dyn ToolSource>>,
    ) -> Self {
        Self {
            specs: tools.map(|(name, ready)| (name.clone(), spec(name, ready))).collect(),
            sources,
        }
    }

    /// Whether there is a tool of this name, or may be.
    pub(crate) fn may_have(&self, name: &str) -> bool {
        self.specs.contains_key(name)
            || self.sources.iter().any(|source| name.starts_with(source.prefix()))
    }

    /// Those of these that there are now; one that ends in `*` stands for all that begin so.
    pub(crate) fn named(&self, names: &[String]) -> Vec<ToolSpec> {
        let mut found: BTreeMap<String, ToolSpec> = BTreeMap::new();
        for name in names {
            let own = self.specs.iter().map(|(name, spec)| (name, spec.clone()));
            let theirs: Vec<_> = self.sources.iter().map(|source| source.tools()).collect();
            let theirs = theirs.iter().flat_map(|tools| tools.iter());
            let theirs = theirs.map(|(name, ready)| (name, spec(name, ready)));
            let fits = |known: &str| match name.strip_suffix('*') {
                Some(prefix) => known.starts_with(prefix),
                None => known == name,
            };
            let fitting = own.chain(theirs).filter(|(known, _)| fits(known));
            found.extend(fitting.map(|(known, spec)| (known.clone(), spec)));
        }
        found.into_values().collect()
    }
}

fn spec(name: &str, ready: &Ready) -> ToolSpec {
    ToolSpec {
        name: name.to_owned(),
        description: ready.tool.description().to_owned(),
        arguments: ready.tool.arguments_schema(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::{Erased, Shape, ToolContext, tool_fn};
    use rustc_hash::FxHashMap;

    #[derive(Debug)]
    struct Server(Arc<FxHashMap<String, Arc<Ready>>>);

    impl ToolSource for Server {
        fn prefix(&self) -> &'static str {
            "docs_"
        }

        fn tools(&self) -> Arc<FxHashMap<String, Arc<Ready>>> {
            Arc::clone(&self.0)
        }
    }

    fn ready(name: &str) -> (String, Ready) {
        let tool = tool_fn(name, "Does.", |_: (), _: ToolContext| async { Ok(()) });
        let arguments = Shape::compile(&serde_json::json!({})).unwrap();
        (name.to_owned(), Ready { tool: Arc::new(Erased(tool)), arguments })
    }

    #[test]
    fn tools_of_servers_are_there_as_long_as_their_servers_have_them() {
        let own: FxHashMap<String, Ready> = [ready("add"), ready("pay")].into_iter().collect();
        let there = [ready("docs_find"), ready("docs_read")];
        let there = there.into_iter().map(|(name, ready)| (name, Arc::new(ready))).collect();
        let toolbox = Toolbox::new(own.iter(), vec![Arc::new(Server(Arc::new(there)))]);
        let named = |names: &[&str]| -> Vec<String> {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            toolbox.named(&names).into_iter().map(|spec| spec.name).collect()
        };
        assert_eq!(named(&["pay", "docs_*"]), ["docs_find", "docs_read", "pay"]);
        assert_eq!(named(&["docs_read", "docs_gone"]), ["docs_read"]);
        assert!(toolbox.may_have("add") && toolbox.may_have("docs_gone"));
        assert!(!toolbox.may_have("gone"));
    }
}
