// Package configs is every key of rustmq's configuration: type, default,
// documentation, validation, and where a value came from.
//
// A key exists because something reads it. It is named by its section and its
// name, "wal.capacity"; the struct tags of [Config] are the one list from which
// the loader, `rustmq config`, the environment names and docs/configuration.md
// are made. A value comes from, in this order: a flag, --set, the environment
// (RUSTMQ_WAL__CAPACITY), the file, the default. Unknown keys are errors, and
// all errors are reported at once, each with its place; a file that is no TOML is
// one that stands alone. Of the environment, the variables of commands
// (RUSTMQ_CONTEXT) and those that Kubernetes sets for Services are no keys.
//
// A key with the tag live may change while the process runs ([Config.Live]): what was set in
// the cluster is over every source of the node's own.
//
// Topics and brokers have configs under Kafka's names, which clients ask for and
// alter ([TopicKeys], [BrokerValues]). The folder kafka has the list of all that
// Kafka documents, so that each is served, ignored or refused for a reason
// ([KafkaTopicKeys], [KafkaBrokerKeys]).
//
// The package reads the files it is told to and no others, and keeps no state.
package configs
