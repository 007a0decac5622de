// Package acl decides who may do what, by Kafka's rules. It owns the rules, the
// matcher that is made of them, what each connection remembers of its decisions, and the
// explanation of a decision. It knows no protocol, no network and no clock, and imports
// no other room but storage/guard.
//
// A [Rule] allows or denies a principal an operation, from a host, on resources of one
// type: the one of a name (literal), those that begin with it (prefixed), or all (literal,
// "*"). The principal is "User:NAME" or, for everybody, "User:*"; the host "*", an address
// or a CIDR.
//
// What holds, as in Kafka:
//
//   - Without a rule that allows it nothing is allowed, but to super users, whom no rule
//     concerns.
//   - A rule that denies wins over any that allows, however general either is.
//   - To allow Read, Write, Delete or Alter is to allow Describe, to allow AlterConfigs to
//     allow DescribeConfigs, and to allow All to allow everything. To deny one of them
//     denies no other, but for All.
//   - Names are bytes: no case, no normal form, no character is special but the name "*".
//     A prefix ends anywhere in a name.
//
// A client whose address is not known is concerned by every host that a rule denies, and
// by none that one allows.
//
// [Compile] makes a [Matcher], which never changes. An [Authorizer] holds the one in
// force, and [Authorizer.Set] puts another in its place at once, for all: a decision is
// never by a matcher that was replaced before it began. A [Client] is who asks, as of one
// matcher. A [Memo] belongs to one connection. It remembers decisions only of the matcher in force, of one principal at one
// address, in a fixed number of places, without a clock.
//
// Concurrency: everything but a Memo may be used by any goroutine. A Memo is used by one
// at a time.
package acl
