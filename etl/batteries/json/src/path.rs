//! Paths to values: `user.email`, `items[0].price`, `items[*].card`, `*.secret`, `["a.b"].c`.

use crate::{Kind, Value};

/// How many steps a path may have.
const MAX_STEPS: usize = 32;

/// A step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The member of that name.
    Name(String),
    /// The element at that index, from 0.
    Index(usize),
    /// Every member, or every element.
    Any,
}

/// Where a value lies in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// What to go through, from the outermost.
    pub steps: Vec<Step>,
}

impl Path {
    /// Reads a path. A name that has other characters than letters, digits, `_`, `-`, `$`, `@` and what is
    /// beyond ASCII stands quoted in brackets.
    pub fn parse(text: &str) -> Result<Path, String> {
        let (path, length) = Path::prefix(text)?;
        if length < text.len() {
            return Err(format!(
                "path {:?}: nothing is known to begin with {:?}; quote odd names: [\"a b\"]",
                text,
                &text[length..]
            ));
        }
        Ok(path)
    }

    /// Reads the path that a text begins with, and says how long it is.
    pub fn prefix(text: &str) -> Result<(Path, usize), String> {
        let mut steps = Vec::new();
        let mut rest = text;
        loop {
            if let Some(inner) = rest.strip_prefix('[') {
                if let Some(after) = inner.strip_prefix("*]") {
                    steps.push(Step::Any);
                    rest = after;
                } else if let Some(quote) = inner.chars().next().filter(|c| matches!(c, '"' | '\'')) {
                    let (name, after) = quoted(&inner[1..], quote)
                        .ok_or_else(|| format!("path {:?}: a name without its closing quote", text))?;
                    rest =
                        after.strip_prefix(']').ok_or_else(|| format!("path {:?}: no ] behind a quoted name", text))?;
                    steps.push(Step::Name(name));
                } else {
                    let end = inner.find(']').ok_or_else(|| format!("path {:?}: no ] behind [", text))?;
                    let wrong = || {
                        format!("path {:?}: [{}] is neither an index, nor *, nor a quoted name", text, &inner[..end])
                    };
                    if !inner[..end].bytes().all(|b| b.is_ascii_digit()) {
                        return Err(wrong());
                    }
                    steps.push(Step::Index(inner[..end].parse().map_err(|_| wrong())?));
                    rest = &inner[end + 1..];
                }
            } else if steps.is_empty() || rest.starts_with('.') {
                let name = rest.strip_prefix('.').filter(|_| !steps.is_empty()).unwrap_or(rest);
                let end = name.find(|c| !in_name(c)).unwrap_or(name.len());
                if let (0, Some(after)) = (end, name.strip_prefix('*')) {
                    steps.push(Step::Any);
                    rest = after;
                } else if end == 0 {
                    return Err(format!("path {:?}: a name is missing", text));
                } else {
                    steps.push(Step::Name(name[..end].into()));
                    rest = &name[end..];
                }
            } else {
                break;
            }
            if steps.len() > MAX_STEPS {
                return Err(format!("path {:?} has more than {} steps", text, MAX_STEPS));
            }
        }
        Ok((Path { steps }, text.len() - rest.len()))
    }

    /// Whether it may lead to many values.
    pub fn has_any(&self) -> bool {
        self.steps.contains(&Step::Any)
    }

    /// The value it leads to, if it is there. Of a path to many: the first.
    pub fn find<'d>(&self, root: Value<'d>) -> Option<Value<'d>> {
        let mut found = None;
        if !self.has_any() {
            return self.steps.iter().try_fold(root, step);
        }
        self.each(root, &mut |value| {
            found.get_or_insert(value);
        });
        found
    }

    /// Calls `visit` with each value that it leads to, in the order of the text.
    pub fn each<'d>(&self, root: Value<'d>, visit: &mut dyn FnMut(Value<'d>)) {
        each(&self.steps, root, visit);
    }
}

/// What may stand in a name without quotes.
fn in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '$' | '@') || !c.is_ascii()
}

/// A name up to its closing quote, and what follows. `\` takes the next character as it is.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => name.push(characters.next()?.1),
            c if c == quote => return Some((name, &text[at + c.len_utf8()..])),
            c => name.push(c),
        }
    }
    None
}

fn step<'d>(value: Value<'d>, step: &Step) -> Option<Value<'d>> {
    match step {
        Step::Name(name) => value.get(name),
        Step::Index(index) => value.items().nth(*index),
        Step::Any => None,
    }
}

fn each<'d>(steps: &[Step], value: Value<'d>, visit: &mut dyn FnMut(Value<'d>)) {
    match steps.split_first() {
        None => visit(value),
        Some((Step::Any, rest)) if value.kind() == Kind::Array => {
            value.items().for_each(|item| each(rest, item, visit))
        }
        Some((Step::Any, rest)) => value.members().for_each(|(_, member)| each(rest, member, visit)),
        Some((first, rest)) => {
            if let Some(value) = step(value, first) {
                each(rest, value, visit);
            }
        }
    }
}
