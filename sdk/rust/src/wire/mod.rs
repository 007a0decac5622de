//! See the items.
