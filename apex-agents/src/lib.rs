//! netra-apex: agents.
