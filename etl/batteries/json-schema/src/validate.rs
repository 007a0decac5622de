//! Whether a value is valid, and where it is not.

use std::fmt;

use rustmq_json::{Decimal, Kind, Owned, Value};

use crate::compile::{type_bit, Id, Keyword, Schemas, TYPES};

/// How many schemas may be at work at once, one within the other: it bounds the stack.
const MAX_DEPTH: usize = 1000;

/// Up to so many items, each is compared with each.
const FEW_ITEMS: usize = 16;

/// Why a value is not valid.
pub(crate) struct Failure {
    /// Where, innermost first.
    path: Vec<String>,
    reason: String,
}

impl fmt::Display for Failure {
    /// ` at /a/0: reason`, or `: reason` of the whole.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            f.write_str(" at ")?;
        }
        for name in self.path.iter().rev() {
            write!(f, "/{}", name.replace('~', "~0").replace('/', "~1"))?;
        }
        write!(f, ": {}", self.reason)
    }
}

fn fails<T>(reason: impl Into<String>) -> Result<T, Failure> {
    Err(Failure { path: Vec::new(), reason: reason.into() })
}

/// Says that the failure lies below `name`.
fn below(name: impl ToString) -> impl FnOnce(Failure) -> Failure {
    move |mut failure| {
        failure.path.push(name.to_string());
        failure
    }
}

impl Schemas {
    /// Whether a document is valid; if not, the first reason that was found.
    pub(crate) fn validate(&self, root: Value<'_>) -> Result<(), Failure> {
        self.check(0, root, 0)
    }

    fn check(&self, id: Id, value: Value<'_>, depth: usize) -> Result<(), Failure> {
        if depth == MAX_DEPTH {
            return fails("it is nested too deep for its schema");
        }
        self.list[id].iter().try_for_each(|keyword| self.keyword(keyword, value, depth + 1))
    }

    fn valid(&self, id: Id, value: Value<'_>, depth: usize) -> bool {
        self.check(id, value, depth).is_ok()
    }

    fn keyword(&self, keyword: &Keyword, value: Value<'_>, depth: usize) -> Result<(), Failure> {
        match keyword {
            Keyword::Never => fails("nothing is allowed here"),
            Keyword::Type(bits, integer) => types(*bits, *integer, value),
            Keyword::Enum(values) if values.iter().any(|one| one.value().equals(&value)) => Ok(()),
            Keyword::Enum(_) => fails("is none of the values that enum allows"),
            Keyword::Const(only) if only.value().equals(&value) => Ok(()),
            Keyword::Const(only) => fails(format!("must be {}", shown(only))),
            Keyword::MultipleOf(_)
            | Keyword::Maximum(_)
            | Keyword::ExclusiveMaximum(_)
            | Keyword::Minimum(_)
            | Keyword::ExclusiveMinimum(_) => value.number().map_or(Ok(()), |number| numbers(keyword, number)),
            Keyword::MaxLength(_) | Keyword::MinLength(_) | Keyword::Pattern(_)
                if matches!(value.kind(), Kind::String | Kind::Key) =>
            {
                texts(keyword, &value.string())
            }
            Keyword::MaxItems(_)
            | Keyword::MinItems(_)
            | Keyword::UniqueItems
            | Keyword::Items(..)
            | Keyword::Contains(..)
                if value.kind() == Kind::Array =>
            {
                self.arrays(keyword, value, depth)
            }
            Keyword::MaxProperties(_)
            | Keyword::MinProperties(_)
            | Keyword::Required(_)
            | Keyword::DependentRequired(_)
            | Keyword::DependentSchemas(_)
            | Keyword::Properties(..)
            | Keyword::PropertyNames(_)
                if value.kind() == Kind::Object =>
            {
                self.objects(keyword, value, depth)
            }
            Keyword::AllOf(schemas) => schemas.iter().try_for_each(|&schema| self.check(schema, value, depth)),
            Keyword::AnyOf(schemas) => self.any_of(schemas, value, depth),
            Keyword::OneOf(schemas) => match schemas.iter().filter(|&&schema| self.valid(schema, value, depth)).count()
            {
                1 => Ok(()),
                0 => fails("is valid by none of the schemas of oneOf"),
                count => fails(format!("is valid by {} schemas of oneOf, and must be by one", count)),
            },
            Keyword::Not(schema) if self.valid(*schema, value, depth) => fails("is valid by the schema of not"),
            Keyword::If(condition, then, otherwise) => {
                let branch = if self.valid(*condition, value, depth) { then } else { otherwise };
                branch.map_or(Ok(()), |schema| self.check(schema, value, depth))
            }
            Keyword::Ref(schema) => self.check(*schema, value, depth),
            _ => Ok(()), // a keyword for another type
        }
    }

    fn any_of(&self, schemas: &[Id], value: Value<'_>, depth: usize) -> Result<(), Failure> {
        let mut last = None;
        for &schema in schemas {
            match self.check(schema, value, depth) {
                Ok(()) => return Ok(()),
                Err(failure) => last = Some(failure),
            }
        }
        match last {
            Some(failure) => fails(format!("is valid by none of the schemas of anyOf; the last says{}", failure)),
            None => Ok(()),
        }
    }

    fn arrays(&self, keyword: &Keyword, value: Value<'_>, depth: usize) -> Result<(), Failure> {
        match keyword {
            Keyword::MaxItems(most) => at_most(value.items().count(), *most, "items"),
            Keyword::MinItems(least) => at_least(value.items().count(), *least, "items"),
            Keyword::UniqueItems => unique(value),
            Keyword::Items(prefix, rest) => {
                for (index, item) in value.items().enumerate() {
                    if let Some(&schema) = prefix.get(index).or(rest.as_ref()) {
                        self.check(schema, item, depth).map_err(below(index))?;
                    }
                }
                Ok(())
            }
            Keyword::Contains(schema, least, most) => {
                let found = value.items().filter(|item| self.valid(*schema, *item, depth)).count() as u64;
                if found < *least {
                    return fails(format!(
                        "has {} items that contains asks for, and must have at least {}",
                        found, least
                    ));
                }
                match most {
                    Some(most) if found > *most => {
                        fails(format!("has {} items that contains asks for, and may have at most {}", found, most))
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn objects(&self, keyword: &Keyword, value: Value<'_>, depth: usize) -> Result<(), Failure> {
        let lacks = |names: &[String]| names.iter().find(|name| value.get(name).is_none()).cloned();
        match keyword {
            Keyword::MaxProperties(most) => at_most(value.members().count(), *most, "properties"),
            Keyword::MinProperties(least) => at_least(value.members().count(), *least, "properties"),
            Keyword::Required(names) => lacks(names).map_or(Ok(()), |name| fails(format!("lacks {:?}", name))),
            Keyword::DependentRequired(list) => {
                for (present, names) in list {
                    if let (Some(_), Some(name)) = (value.get(present), lacks(names)) {
                        return fails(format!("has {:?}, and lacks {:?}", present, name));
                    }
                }
                Ok(())
            }
            Keyword::DependentSchemas(list) => {
                let mut present = list.iter().filter(|(name, _)| value.get(name).is_some());
                present.try_for_each(|(_, schema)| self.check(*schema, value, depth))
            }
            Keyword::Properties(names, patterns, additional) => {
                for (key, member) in value.members() {
                    let key = key.string();
                    let mut other = true;
                    if let Ok(at) = names.binary_search_by(|(name, _)| name.as_str().cmp(&key)) {
                        other = false;
                        self.check(names[at].1, member, depth).map_err(below(&key))?;
                    }
                    for (pattern, schema) in patterns {
                        if pattern.is_in(&key) {
                            other = false;
                            self.check(*schema, member, depth).map_err(below(&key))?;
                        }
                    }
                    if let (true, Some(schema)) = (other, additional) {
                        if let [Keyword::Never] = self.list[*schema][..] {
                            return fails(format!("has {:?}, which is not among its properties", key));
                        }
                        self.check(*schema, member, depth).map_err(below(&key))?;
                    }
                }
                Ok(())
            }
            Keyword::PropertyNames(schema) => {
                value.keys().try_for_each(|key| self.check(*schema, key, depth).map_err(below(key.string())))
            }
            _ => Ok(()),
        }
    }
}

fn types(bits: u8, integer: bool, value: Value<'_>) -> Result<(), Failure> {
    let bit = type_bit(value.kind());
    let is_of = bits & bit != 0;
    if is_of && !(integer && value.number().map_or(false, |number| !number.is_integer())) {
        return Ok(());
    }
    let name = |i: usize| if integer && TYPES[i] == "number" { "integer" } else { TYPES[i] };
    let allowed: Vec<_> = (0..TYPES.len()).filter(|i| bits >> i & 1 == 1).map(name).collect();
    fails(format!(
        "is {}{}; its type must be {}",
        value.noun(),
        if is_of { " that is not whole" } else { "" },
        allowed.join(" or ")
    ))
}

fn numbers(keyword: &Keyword, number: Decimal<'_>) -> Result<(), Failure> {
    let (bound, says, holds): (_, _, fn(&Decimal<'_>, &Decimal<'_>) -> bool) = match keyword {
        Keyword::MultipleOf(of) => (of, "must be a multiple of", |number, of| number.is_multiple(of)),
        Keyword::Maximum(most) => (most, "must be at most", |number, most| number <= most),
        Keyword::ExclusiveMaximum(most) => (most, "must be below", |number, most| number < most),
        Keyword::Minimum(least) => (least, "must be at least", |number, least| number >= least),
        Keyword::ExclusiveMinimum(least) => (least, "must be above", |number, least| number > least),
        _ => return Ok(()),
    };
    match bound.value().number() {
        Some(limit) if !holds(&number, &limit) => fails(format!("{} {}", says, shown(bound))),
        _ => Ok(()),
    }
}

fn texts(keyword: &Keyword, text: &str) -> Result<(), Failure> {
    match keyword {
        Keyword::MaxLength(most) => at_most(text.chars().count(), *most, "characters"),
        Keyword::MinLength(least) => at_least(text.chars().count(), *least, "characters"),
        Keyword::Pattern(pattern) if !pattern.is_in(text) => {
            fails(format!("does not match the pattern {:?}", pattern.text()))
        }
        _ => Ok(()),
    }
}

fn at_most(count: usize, most: u64, what: &str) -> Result<(), Failure> {
    if count as u64 > most {
        return fails(format!("has {} {}, and may have at most {}", count, what, most));
    }
    Ok(())
}

fn at_least(count: usize, least: u64, what: &str) -> Result<(), Failure> {
    if (count as u64) < least {
        return fails(format!("has {} {}, and must have at least {}", count, what, least));
    }
    Ok(())
}

fn unique(array: Value<'_>) -> Result<(), Failure> {
    let items: Vec<_> = array.items().collect();
    let twice = || fails("has an item twice");
    if items.len() <= FEW_ITEMS {
        for (i, item) in items.iter().enumerate() {
            if items[..i].iter().any(|other| other.equals(item)) {
                return twice();
            }
        }
        return Ok(());
    }
    // The same items have the same hash, so only neighbours of one hash are compared.
    let mut hashed: Vec<_> = items.iter().map(|item| (item.hash(), item)).collect();
    hashed.sort_unstable_by_key(|(hash, _)| *hash);
    for (i, (hash, item)) in hashed.iter().enumerate() {
        let mut same = hashed[..i].iter().rev().take_while(|(other, _)| other == hash);
        if same.any(|(_, other)| other.equals(item)) {
            return twice();
        }
    }
    Ok(())
}

/// A constant of the schema, cut where it is long.
fn shown(constant: &Owned) -> String {
    let text = constant.value().raw();
    match text.char_indices().nth(100) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}
