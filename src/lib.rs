//! netra-apex.
