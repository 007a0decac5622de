//! From the text of a schema to what is checked.

use std::collections::BTreeMap;

use rustmq_json::{Kind, Owned, Value};

use crate::pattern::Pattern;

/// How many schemas may apply to one value, one within the other.
const MAX_CHAIN: usize = 32;

/// How many schemas there may be.
const MAX_SCHEMAS: usize = 10_000;

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// What describes, and checks nothing. `format` is such in draft 2020-12.
const ANNOTATIONS: [&str; 12] = [
    "title",
    "description",
    "default",
    "deprecated",
    "readOnly",
    "writeOnly",
    "examples",
    "$comment",
    "format",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
];

/// A schema by its number.
pub(crate) type Id = usize;

/// What a value must keep to.
pub(crate) enum Keyword {
    /// The schema `false`.
    Never,
    /// Bits of [`type_bit`], and whether numbers must be whole.
    Type(u8, bool),
    Enum(Vec<Owned>),
    Const(Owned),
    MultipleOf(Owned),
    Maximum(Owned),
    ExclusiveMaximum(Owned),
    Minimum(Owned),
    ExclusiveMinimum(Owned),
    MaxLength(u64),
    MinLength(u64),
    Pattern(Pattern),
    MaxItems(u64),
    MinItems(u64),
    UniqueItems,
    MaxProperties(u64),
    MinProperties(u64),
    Required(Vec<String>),
    DependentRequired(Vec<(String, Vec<String>)>),
    DependentSchemas(Vec<(String, Id)>),
    /// `properties` by name, `patternProperties`, `additionalProperties`.
    Properties(Vec<(String, Id)>, Vec<(Pattern, Id)>, Option<Id>),
    PropertyNames(Id),
    /// `prefixItems`, `items`.
    Items(Vec<Id>, Option<Id>),
    /// `contains`, `minContains`, `maxContains`.
    Contains(Id, u64, Option<u64>),
    AllOf(Vec<Id>),
    AnyOf(Vec<Id>),
    OneOf(Vec<Id>),
    Not(Id),
    If(Id, Option<Id>, Option<Id>),
    Ref(Id),
}

/// The bit of a kind in [`Keyword::Type`].
pub(crate) fn type_bit(kind: Kind) -> u8 {
    match kind {
        Kind::Null => 1,
        Kind::False | Kind::True => 2,
        Kind::Number => 4,
        Kind::String | Kind::Key => 8,
        Kind::Array => 16,
        Kind::Object => 32,
    }
}

/// Names of types, by bit.
pub(crate) const TYPES: [&str; 6] = ["null", "boolean", "number", "string", "array", "object"];

/// A schema and those it consists of. The first is the whole.
pub(crate) struct Schemas {
    pub(crate) list: Vec<Vec<Keyword>>,
}

struct Compiler<'d> {
    root: Value<'d>,
    /// Schemas that are known, by their place (a JSON pointer).
    ids: BTreeMap<String, Id>,
    /// Schemas that are still to be read.
    left: Vec<(String, Value<'d>, Id)>,
    /// For each schema those that apply to the same value.
    same: Vec<Vec<Id>>,
}

impl Schemas {
    /// Reads a schema. An error begins with the place in it: `/properties/a: …`, or `: …`.
    pub(crate) fn compile(root: Value<'_>) -> Result<Schemas, String> {
        let mut compiler = Compiler { root, ids: BTreeMap::new(), left: Vec::new(), same: Vec::new() };
        compiler.schema(String::new(), root)?;
        let mut list: Vec<Vec<Keyword>> = Vec::new();
        while let Some((place, value, id)) = compiler.left.pop() {
            let keywords = compiler.keywords(&place, value, id)?;
            if list.len() <= id {
                list.resize_with(id + 1, Vec::new);
            }
            list[id] = keywords;
        }
        compiler.bounded()?;
        Ok(Schemas { list })
    }
}

impl<'d> Compiler<'d> {
    /// The number of the schema at a place. It is read later, so that no schema nests too deep.
    fn schema(&mut self, place: String, value: Value<'d>) -> Result<Id, String> {
        if let Some(&id) = self.ids.get(&place) {
            return Ok(id);
        }
        let id = self.same.len();
        if id == MAX_SCHEMAS {
            return Err(format!(": there are more than {} schemas in it", MAX_SCHEMAS));
        }
        self.same.push(Vec::new());
        self.ids.insert(place.clone(), id);
        self.left.push((place, value, id));
        Ok(id)
    }

    fn keywords(&mut self, place: &str, value: Value<'d>, id: Id) -> Result<Vec<Keyword>, String> {
        match value.kind() {
            Kind::True => return Ok(Vec::new()),
            Kind::False => return Ok(vec![Keyword::Never]),
            Kind::Object => {}
            _ => return Err(format!("{}: is {}; a schema is an object or a boolean", place, value.noun())),
        }
        let mut keywords = Vec::new();
        for (key, argument) in value.members() {
            let name = key.string();
            let at = Place { base: place, name: &name };
            let keyword = match &*name {
                "type" => types(&at, argument)?,
                "enum" => Keyword::Enum(at.list(argument)?.into_iter().map(Owned::of).collect()),
                "const" => Keyword::Const(Owned::of(argument)),
                "multipleOf" => {
                    let number = at.number(argument)?;
                    let value = number.value().number();
                    if value.map_or(true, |n| n.is_at_most_zero() || !n.has_few_digits()) {
                        return Err(at.wrong("must be above 0, and have at most 18 digits"));
                    }
                    Keyword::MultipleOf(number)
                }
                "maximum" => Keyword::Maximum(at.number(argument)?),
                "exclusiveMaximum" => Keyword::ExclusiveMaximum(at.number(argument)?),
                "minimum" => Keyword::Minimum(at.number(argument)?),
                "exclusiveMinimum" => Keyword::ExclusiveMinimum(at.number(argument)?),
                "maxLength" => Keyword::MaxLength(at.count(argument)?),
                "minLength" => Keyword::MinLength(at.count(argument)?),
                "pattern" => Keyword::Pattern(at.pattern(&at.text(argument)?)?),
                "maxItems" => Keyword::MaxItems(at.count(argument)?),
                "minItems" => Keyword::MinItems(at.count(argument)?),
                "uniqueItems" => match argument.kind() {
                    Kind::True => Keyword::UniqueItems,
                    Kind::False => continue,
                    _ => return Err(at.wrong("must be a boolean")),
                },
                "maxProperties" => Keyword::MaxProperties(at.count(argument)?),
                "minProperties" => Keyword::MinProperties(at.count(argument)?),
                "required" => Keyword::Required(at.texts(argument)?),
                "dependentRequired" => {
                    let entries = at.object(argument)?.into_iter().map(|(name, value)| Ok((name, at.texts(value)?)));
                    Keyword::DependentRequired(entries.collect::<Result<_, String>>()?)
                }
                "dependentSchemas" => {
                    let schemas = self.named(&at, argument)?;
                    self.same[id].extend(schemas.iter().map(|(_, schema)| *schema));
                    Keyword::DependentSchemas(schemas)
                }
                "properties" => {
                    let mut names = self.named(&at, argument)?;
                    names.sort();
                    let patterns = self.patterns(place, value)?;
                    Keyword::Properties(names, patterns, self.beside(place, value, "additionalProperties")?)
                }
                "patternProperties" | "additionalProperties" if value.get("properties").is_some() => continue,
                "patternProperties" => {
                    let patterns = self.patterns(place, value)?;
                    Keyword::Properties(Vec::new(), patterns, self.beside(place, value, "additionalProperties")?)
                }
                "additionalProperties" if value.get("patternProperties").is_some() => continue,
                "additionalProperties" => {
                    Keyword::Properties(Vec::new(), Vec::new(), self.beside(place, value, &name)?)
                }
                "propertyNames" => Keyword::PropertyNames(self.schema(at.pointer(), argument)?),
                "prefixItems" => Keyword::Items(self.listed(&at, argument)?, self.beside(place, value, "items")?),
                "items" if value.get("prefixItems").is_some() => continue,
                "items" if argument.kind() == Kind::Array => {
                    return Err(at.wrong("is an array, as in older drafts; write prefixItems"))
                }
                "items" => Keyword::Items(Vec::new(), self.beside(place, value, &name)?),
                "contains" => {
                    let count = |name: &str| value.get(name).map(|v| Place { base: place, name }.count(v)).transpose();
                    Keyword::Contains(
                        self.schema(at.pointer(), argument)?,
                        count("minContains")?.unwrap_or(1),
                        count("maxContains")?,
                    )
                }
                "minContains" | "maxContains" => continue, // read with contains; without it they say nothing
                "allOf" | "anyOf" | "oneOf" => {
                    let schemas = self.listed(&at, argument)?;
                    self.same[id].extend(&schemas);
                    match &*name {
                        "allOf" => Keyword::AllOf(schemas),
                        "anyOf" => Keyword::AnyOf(schemas),
                        _ => Keyword::OneOf(schemas),
                    }
                }
                "not" => {
                    let schema = self.schema(at.pointer(), argument)?;
                    self.same[id].push(schema);
                    Keyword::Not(schema)
                }
                "if" => {
                    let schema = self.schema(at.pointer(), argument)?;
                    let (then, otherwise) = (self.beside(place, value, "then")?, self.beside(place, value, "else")?);
                    self.same[id].extend([Some(schema), then, otherwise].iter().flatten());
                    Keyword::If(schema, then, otherwise)
                }
                "then" | "else" => continue, // read with if; without it they say nothing
                "$ref" => {
                    let schema = self.reference(&at, &at.text(argument)?)?;
                    self.same[id].push(schema);
                    Keyword::Ref(schema)
                }
                "$defs" | "definitions" => {
                    self.named(&at, argument)?;
                    continue;
                }
                "$schema" if argument.is(DRAFT) => continue,
                "$schema" => return Err(at.wrong(&format!("is not {}", DRAFT))),
                "$id" if place.is_empty() => continue,
                "$id" => return Err(at.wrong("is only for the whole schema")),
                name if ANNOTATIONS.contains(&name) => continue,
                "unevaluatedItems"
                | "unevaluatedProperties"
                | "$anchor"
                | "$dynamicRef"
                | "$dynamicAnchor"
                | "$vocabulary"
                | "dependencies"
                | "additionalItems"
                | "$recursiveRef" => return Err(at.wrong("is not supported")),
                _ => return Err(at.wrong("is not known")),
            };
            keywords.push(keyword);
        }
        // What is cheap and often fails comes first.
        keywords.sort_by_key(|keyword| !matches!(keyword, Keyword::Type(..)));
        Ok(keywords)
    }

    /// The schema that another keyword of the same schema has, if it is there.
    fn beside(&mut self, place: &str, value: Value<'d>, name: &str) -> Result<Option<Id>, String> {
        match value.get(name) {
            None => Ok(None),
            Some(schema) => self.schema(Place { base: place, name }.pointer(), schema).map(Some),
        }
    }

    fn patterns(&mut self, place: &str, value: Value<'d>) -> Result<Vec<(Pattern, Id)>, String> {
        let at = Place { base: place, name: "patternProperties" };
        let named = match value.get("patternProperties") {
            None => Vec::new(),
            Some(patterns) => self.named(&at, patterns)?,
        };
        named.into_iter().map(|(pattern, id)| Ok((at.pattern(&pattern)?, id))).collect()
    }

    fn named(&mut self, at: &Place<'_>, value: Value<'d>) -> Result<Vec<(String, Id)>, String> {
        let pointer = at.pointer();
        let named = at.object(value)?.into_iter().map(|(name, schema)| {
            let place = Place { base: &pointer, name: &name }.pointer();
            let id = self.schema(place, schema)?;
            Ok((name, id))
        });
        named.collect()
    }

    fn listed(&mut self, at: &Place<'_>, value: Value<'d>) -> Result<Vec<Id>, String> {
        let pointer = at.pointer();
        let schemas = at.list(value)?;
        if schemas.is_empty() {
            return Err(at.wrong("is empty"));
        }
        schemas.into_iter().enumerate().map(|(i, schema)| self.schema(format!("{}/{}", pointer, i), schema)).collect()
    }

    /// The schema that a reference within the document names.
    fn reference(&mut self, at: &Place<'_>, reference: &str) -> Result<Id, String> {
        let pointer = match reference.strip_prefix('#') {
            Some(pointer) if (pointer.is_empty() || pointer.starts_with('/')) && !pointer.contains('%') => pointer,
            _ => {
                return Err(
                    at.wrong(&format!("{:?} is not supported: write # or #/…, a place in this schema", reference))
                )
            }
        };
        let mut value = self.root;
        let mut place = String::new();
        for token in pointer.split('/').skip(1) {
            let name = token.replace("~1", "/").replace("~0", "~");
            let next = match value.kind() {
                Kind::Array => name.parse().ok().and_then(|index| value.items().nth(index)),
                _ => value.get(&name),
            };
            value = next.ok_or_else(|| at.wrong(&format!("{:?}: there is nothing at that place", reference)))?;
            place = Place { base: &place, name: &name }.pointer();
        }
        self.schema(place, value)
    }

    /// Refuses schemas that apply to the same value for ever, or nearly so.
    fn bounded(&self) -> Result<(), String> {
        let mut above = vec![0usize; self.same.len()];
        self.same.iter().flatten().for_each(|&id| above[id] += 1);
        let mut depth = vec![1usize; self.same.len()];
        let mut ready: Vec<Id> = (0..self.same.len()).filter(|&id| above[id] == 0).collect();
        let mut done = 0;
        while let Some(id) = ready.pop() {
            done += 1;
            for &below in &self.same[id] {
                depth[below] = depth[below].max(depth[id] + 1);
                above[below] -= 1;
                if above[below] == 0 {
                    ready.push(below);
                }
            }
        }
        let place_of = |id: Id| self.ids.iter().find(|(_, &other)| other == id).map_or("", |(place, _)| place.as_str());
        if done < self.same.len() {
            let id = (0..self.same.len()).find(|&id| above[id] > 0).unwrap_or(0);
            return Err(format!("{}: refers to itself for the same value, for ever", place_of(id)));
        }
        match depth.iter().position(|&depth| depth > MAX_CHAIN) {
            Some(id) => Err(format!(
                "{}: more than {} schemas, one within the other, are for the same value",
                place_of(id),
                MAX_CHAIN
            )),
            None => Ok(()),
        }
    }
}

fn types(at: &Place<'_>, argument: Value<'_>) -> Result<Keyword, String> {
    let names = match argument.kind() {
        Kind::String => vec![argument.string().into_owned()],
        _ => at.texts(argument)?,
    };
    let (mut bits, mut integer, mut number) = (0, false, false);
    for name in &names {
        match TYPES.iter().position(|ours| ours == name) {
            Some(bit) => {
                bits |= 1 << bit;
                number |= name == "number";
            }
            None if name == "integer" => {
                bits |= type_bit(Kind::Number);
                integer = true;
            }
            None => {
                return Err(at.wrong(&format!("{:?} is not a type; there are {}, integer", name, TYPES.join(", "))))
            }
        }
    }
    Ok(Keyword::Type(bits, integer && !number))
}

/// A keyword of a schema, for what is said of it.
struct Place<'p> {
    base: &'p str,
    name: &'p str,
}

impl Place<'_> {
    fn pointer(&self) -> String {
        format!("{}/{}", self.base, self.name.replace('~', "~0").replace('/', "~1"))
    }

    fn wrong(&self, what: &str) -> String {
        format!("{}: {} {}", self.base, self.name, what)
    }

    fn list<'d>(&self, value: Value<'d>) -> Result<Vec<Value<'d>>, String> {
        match value.kind() {
            Kind::Array => Ok(value.items().collect()),
            _ => Err(self.wrong("must be an array")),
        }
    }

    fn object<'d>(&self, value: Value<'d>) -> Result<Vec<(String, Value<'d>)>, String> {
        match value.kind() {
            Kind::Object => Ok(value.members().map(|(key, value)| (key.string().into_owned(), value)).collect()),
            _ => Err(self.wrong("must be an object")),
        }
    }

    fn text(&self, value: Value<'_>) -> Result<String, String> {
        match value.kind() {
            Kind::String => Ok(value.string().into_owned()),
            _ => Err(self.wrong("must be a string")),
        }
    }

    fn texts(&self, value: Value<'_>) -> Result<Vec<String>, String> {
        self.list(value)?
            .into_iter()
            .map(|item| self.text(item).map_err(|_| self.wrong("must be an array of strings")))
            .collect()
    }

    fn number(&self, value: Value<'_>) -> Result<Owned, String> {
        match value.kind() {
            Kind::Number => Ok(Owned::of(value)),
            _ => Err(self.wrong("must be a number")),
        }
    }

    fn count(&self, value: Value<'_>) -> Result<u64, String> {
        value.number().and_then(|number| number.count()).ok_or_else(|| self.wrong("must be a count, 0 or more"))
    }

    fn pattern(&self, text: &str) -> Result<Pattern, String> {
        Pattern::compile(text).map_err(|e| self.wrong(&format!("{:?}: {}", text, e)))
    }
}
