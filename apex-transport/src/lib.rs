//! netra-apex: transport.
