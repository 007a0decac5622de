//! Rules of who may do what.

use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::{CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest};
use kafka_protocol::protocol::StrBytes;

use super::{Admin, refused};
use crate::cluster::{CallOptions, To};
use crate::consumer::text;
use crate::error::{Error, Result};

// Kafka's numbers by name; 0 is unknown.
const RESOURCES: [&str; 8] =
    ["unknown", "any", "topic", "group", "cluster", "transactional-id", "delegation-token", "user"];
const PATTERNS: [&str; 5] = ["unknown", "any", "match", "literal", "prefixed"];
const PERMISSIONS: [&str; 4] = ["unknown", "any", "deny", "allow"];
const OPERATIONS: [&str; 15] = [
    "unknown",
    "any",
    "all",
    "read",
    "write",
    "create",
    "delete",
    "alter",
    "describe",
    "cluster-action",
    "describe-configs",
    "alter-configs",
    "idempotent-write",
    "create-tokens",
    "describe-tokens",
];

/// A rule of who may do what. In a filter what is empty stands for any.
///
/// ```
/// use rustmq::Acl;
/// let rule = Acl { principal: "User:alice".into(), resource: "topic".into(), name: "orders".into(), operation: "read".into(), ..Acl::default() };
/// # let _ = rule;
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acl {
    /// `User:NAME`, or `User:*` for everybody.
    pub principal: String,
    /// An address, a range, or `*`, the default of a rule.
    pub host: String,
    /// topic, group, cluster, transactional-id, delegation-token or user.
    pub resource: String,
    /// literal, the default of a rule, or prefixed.
    pub pattern: String,
    /// Name of the resource, `*` for all; of the cluster: `kafka-cluster`.
    pub name: String,
    /// read, write, create, delete, alter, describe, describe-configs, alter-configs, idempotent-write, all and others.
    pub operation: String,
    /// allow, the default of a rule, or deny, which wins.
    pub permission: String,
}

/// A rule in Kafka's numbers.
struct Numbers {
    resource: i8,
    pattern: i8,
    operation: i8,
    permission: i8,
}

fn number(what: &str, names: &[&str], name: &str) -> Result<i8> {
    let lower = name.to_ascii_lowercase().replace('_', "-");
    let at = names.iter().position(|n| *n == lower).filter(|at| *at > 0);
    at.and_then(|at| i8::try_from(at).ok())
        .ok_or_else(|| Error::Config(format!("an ACL's {what} is {name:?}: want one of {}", names[1..].join(", "))))
}

fn name(names: &[&str], number: i8) -> String {
    let known = usize::try_from(number).ok().and_then(|n| names.get(n));
    known.map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

impl Acl {
    fn numbers(&self, filter: bool) -> Result<Numbers> {
        let or = |value: &str, rule: &str| match value {
            "" if filter => "any".to_owned(),
            "" => rule.to_owned(),
            value => value.to_owned(),
        };
        Ok(Numbers {
            resource: number("resource", &RESOURCES, &or(&self.resource, ""))?,
            pattern: number("pattern", &PATTERNS, &or(&self.pattern, "literal"))?,
            operation: number("operation", &OPERATIONS, &or(&self.operation, ""))?,
            permission: number("permission", &PERMISSIONS, &or(&self.permission, "allow"))?,
        })
    }
}

fn or_null(s: &str) -> Option<StrBytes> {
    (!s.is_empty()).then(|| text(s))
}

impl Admin {
    /// Makes rules. What it fails with is the first that was refused; those before it are made.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for words that are not known, [`Error::Broker`].
    pub async fn create_acls(&self, rules: &[Acl]) -> Result<()> {
        let mut creations = Vec::new();
        for rule in rules {
            let numbers = rule.numbers(false)?;
            let mut creation = AclCreation::default();
            (creation.resource_type, creation.resource_pattern_type) = (numbers.resource, numbers.pattern);
            (creation.operation, creation.permission_type) = (numbers.operation, numbers.permission);
            creation.resource_name = text(&rule.name);
            creation.principal = text(&rule.principal);
            creation.host = text(if rule.host.is_empty() { "*" } else { &rule.host });
            creations.push(creation);
        }
        let make = |_: i16| {
            let mut request = CreateAclsRequest::default();
            request.creations.clone_from(&creations);
            request
        };
        let answer = self.client.cluster().call(To::Controller, make, CallOptions::default()).await?;
        for (rule, result) in rules.iter().zip(answer.results) {
            if let Some(code) = result.error_code.err() {
                return Err(refused(format!("create ACL {rule:?}"), code, result.error_message));
            }
        }
        Ok(())
    }

    /// Lists the rules that a filter chooses; the default [`Acl`] chooses all.
    ///
    /// # Errors
    ///
    /// As [`Admin::create_acls`].
    pub async fn acls(&self, filter: &Acl) -> Result<Vec<Acl>> {
        let numbers = filter.numbers(true)?;
        let make = |_: i16| {
            let mut request = DescribeAclsRequest::default();
            (request.resource_type_filter, request.pattern_type_filter) = (numbers.resource, numbers.pattern);
            (request.operation, request.permission_type) = (numbers.operation, numbers.permission);
            request.resource_name_filter = or_null(&filter.name);
            request.principal_filter = or_null(&filter.principal);
            request.host_filter = or_null(&filter.host);
            request
        };
        let answer = self.client.cluster().call(To::Any, make, CallOptions::default()).await?;
        if let Some(code) = answer.error_code.err() {
            return Err(refused("list ACLs", code, answer.error_message));
        }
        let mut rules = Vec::new();
        for of in answer.resources {
            for rule in of.acls {
                rules.push(Acl {
                    principal: rule.principal.to_string(),
                    host: rule.host.to_string(),
                    resource: name(&RESOURCES, of.resource_type),
                    pattern: name(&PATTERNS, of.pattern_type),
                    name: of.resource_name.to_string(),
                    operation: name(&OPERATIONS, rule.operation),
                    permission: name(&PERMISSIONS, rule.permission_type),
                });
            }
        }
        Ok(rules)
    }

    /// Deletes the rules that a filter chooses, and returns how many. The default [`Acl`], which would choose
    /// all, is refused.
    ///
    /// # Errors
    ///
    /// As [`Admin::create_acls`].
    pub async fn delete_acls(&self, filter: &Acl) -> Result<usize> {
        if *filter == Acl::default() {
            return Err(Error::Config("delete ACLs: the filter is empty, and would choose all".to_owned()));
        }
        let numbers = filter.numbers(true)?;
        let make = |_: i16| {
            let mut chosen = DeleteAclsFilter::default();
            (chosen.resource_type_filter, chosen.pattern_type_filter) = (numbers.resource, numbers.pattern);
            (chosen.operation, chosen.permission_type) = (numbers.operation, numbers.permission);
            chosen.resource_name_filter = or_null(&filter.name);
            chosen.principal_filter = or_null(&filter.principal);
            chosen.host_filter = or_null(&filter.host);
            let mut request = DeleteAclsRequest::default();
            request.filters.push(chosen);
            request
        };
        let answer = self.client.cluster().call(To::Controller, make, CallOptions::default()).await?;
        let mut deleted = 0;
        for result in answer.filter_results {
            if let Some(code) = result.error_code.err() {
                return Err(refused("delete ACLs", code, result.error_message));
            }
            for rule in result.matching_acls {
                if let Some(code) = rule.error_code.err() {
                    return Err(refused("delete ACLs", code, rule.error_message));
                }
                deleted += 1;
            }
        }
        Ok(deleted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_kafkas_numbers_and_back() {
        let rule = Acl { resource: "transactional_id".into(), operation: "Describe-Configs".into(), ..Acl::default() };
        let n = rule.numbers(false).unwrap();
        assert_eq!((n.resource, n.pattern, n.operation, n.permission), (5, 3, 10, 3));
        assert_eq!(
            (name(&RESOURCES, 5), name(&OPERATIONS, 10), name(&PERMISSIONS, 99)),
            ("transactional-id".to_owned(), "describe-configs".to_owned(), "99".to_owned())
        );
        let all = Acl::default().numbers(true).unwrap();
        assert_eq!((all.resource, all.pattern, all.operation, all.permission), (1, 1, 1, 1));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for rule in [
            Acl::default(),
            Acl { resource: "table".into(), operation: "read".into(), ..Acl::default() },
            Acl { resource: "unknown".into(), ..Acl::default() },
        ] {
            assert!(matches!(rule.numbers(false), Err(Error::Config(_))), "{rule:?}");
        }
    }
}
