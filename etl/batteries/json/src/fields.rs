//! Configurations of the batteries.

use std::borrow::Cow;

use crate::{Kind, Value};

/// An object of a configuration. What it has that nobody reads is an error, so that a mistyped name
/// does not pass for a default.
pub struct Fields<'d> {
    value: Value<'d>,
    place: String,
}

impl<'d> Fields<'d> {
    /// The object `value`, whose place in the configuration is `place` (`config`, `config.rules[2]`), and
    /// which may have the members `known`.
    pub fn of(value: Value<'d>, place: impl Into<String>, known: &[&str]) -> Result<Self, String> {
        let place = place.into();
        if value.kind() != Kind::Object {
            return Err(format!("{} is {}; write an object with {}", place, value.noun(), known.join(", ")));
        }
        for (key, _) in value.members() {
            let key = key.string();
            if !known.contains(&&*key) {
                return Err(format!("{} has no {:?}; it knows {}", place, key, known.join(", ")));
            }
        }
        Ok(Fields { value, place })
    }

    /// Where it is.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The member of that name. `null` is as if it were not there.
    pub fn get(&self, name: &str) -> Option<Value<'d>> {
        self.value.get(name).filter(|value| value.kind() != Kind::Null)
    }

    fn wrong(&self, name: &str, value: Value<'_>, wanted: &str) -> String {
        format!("{}.{} is {}; write {}", self.place, name, value.noun(), wanted)
    }

    /// A text.
    pub fn text(&self, name: &str) -> Result<Option<Cow<'d, str>>, String> {
        match self.get(name) {
            None => Ok(None),
            Some(value) if value.kind() == Kind::String => Ok(Some(value.string())),
            Some(value) => Err(self.wrong(name, value, "a string")),
        }
    }

    /// A text that must be there.
    pub fn required(&self, name: &str) -> Result<Cow<'d, str>, String> {
        self.text(name)?.ok_or_else(|| format!("{} lacks {:?}", self.place, name))
    }

    /// One of some words; the first if none is there.
    pub fn choice<'w>(&self, name: &str, words: &[&'w str]) -> Result<&'w str, String> {
        match self.text(name)? {
            None => Ok(words[0]),
            Some(text) => words
                .iter()
                .copied()
                .find(|word| *word == text)
                .ok_or_else(|| format!("{}.{} is {:?}; it is one of {}", self.place, name, text, words.join(", "))),
        }
    }

    /// A count, 0 and up; 0 if there is none.
    pub fn count(&self, name: &str) -> Result<usize, String> {
        match self.get(name) {
            None => Ok(0),
            Some(value) => match value.number().and_then(|number| number.count()) {
                Some(count) if count <= 1 << 30 => Ok(count as usize),
                _ => Err(self.wrong(name, value, "a count, 0 or more")),
            },
        }
    }

    /// The elements of an array; none if it is not there.
    pub fn list(&self, name: &str) -> Result<Vec<(String, Value<'d>)>, String> {
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(value) if value.kind() == Kind::Array => Ok(value
                .items()
                .enumerate()
                .map(|(i, item)| (format!("{}.{}[{}]", self.place, name, i), item))
                .collect()),
            Some(value) => Err(self.wrong(name, value, "an array")),
        }
    }

    /// The elements of an array of texts.
    pub fn texts(&self, name: &str) -> Result<Vec<String>, String> {
        let texts = self.list(name)?.into_iter().map(|(place, item)| match item.kind() {
            Kind::String => Ok(item.string().into_owned()),
            _ => Err(format!("{} is {}; write a string", place, item.noun())),
        });
        texts.collect()
    }

    /// Names and values of an object; none if it is not there.
    pub fn entries(&self, name: &str) -> Result<Vec<(String, Value<'d>)>, String> {
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(value) if value.kind() == Kind::Object => {
                Ok(value.members().map(|(key, value)| (key.string().into_owned(), value)).collect())
            }
            Some(value) => Err(self.wrong(name, value, "an object")),
        }
    }
}
