//! JSON as the batteries need it.
//!
//! A [`Document`] is read once and says where each value lies in the text, so that a battery can
//! replace some bytes and leave the others as they were. Numbers are compared as they are written
//! ([`Decimal`]), never by way of floating point. What is read is I-JSON (RFC 7493): UTF-8, no key
//! twice in an object, no half of a surrogate pair; so that no two readers see two documents.
//!
//! Input of any kind is an [`Error`], never a panic: reading does not recurse, and its work and
//! memory are bounded ([`MAX_DEPTH`], [`MAX_VALUES`]).
#![warn(missing_docs)]

mod decimal;
mod fields;
mod parse;
mod path;
mod text;
mod value;

pub use decimal::Decimal;
pub use fields::Fields;
pub use parse::{Document, Error, Owned, MAX_DEPTH, MAX_VALUES};
pub use path::{Path, Step};
pub use text::write_string;
pub use value::{Kind, Value};
