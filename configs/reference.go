package configs

import (
	"embed"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Examples are the configuration files that ship with rustmq.
//
//go:embed *.toml
var Examples embed.FS

// TOML writes the configuration as a file that reads back, each key under its
// documentation.
func (c *Config) TOML() string {
	var b strings.Builder
	section := ""
	for _, k := range Keys() {
		if k.Section != section {
			section = k.Section
			fmt.Fprintf(&b, "\n[%s]\n", section)
		}
		fmt.Fprintf(&b, "# %s\n%s = %s\n", k.Doc, k.Name[len(k.Section)+1:], literal(k, c.Value(k)))
	}
	return strings.TrimPrefix(b.String(), "\n")
}

// literal is a value as TOML writes it.
func literal(k Key, value string) string {
	if k.Type == "bool" || k.Type == "int" {
		return value
	}
	line, err := toml.Marshal(map[string]string{"v": value})
	if err != nil {
		panic(fmt.Sprintf("configs: %s = %q cannot be written: %v", k.Name, value, err)) // set lets only UTF-8 in
	}
	return strings.TrimSpace(strings.TrimPrefix(string(line), "v = "))
}

// Reference is docs/configuration.md.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Configuration

Every key of rustmq, made from the code by ` + "`make generate`" + `. A value comes from, in
this order: a flag, ` + "`--set section.key=value`" + `, the environment
(` + "`RUSTMQ_WAL__MEMORY`" + ` is ` + "`wal.memory`" + `), the file of ` + "`--config`" + `, the default.
` + "`rustmq config show`" + ` prints the merged result and where each value came from,
` + "`rustmq config check FILE`" + ` everything that is wrong with a file. Variables that Kubernetes sets for a Service
named rustmq set no key.

Keys that are marked **live** may change while processes run, in two ways; the others are read
when a process starts, and wait for its restart.

- ` + "`rustmq admin config set KEY=VALUE`" + ` sets one on all nodes, and with ` + "`--node N`" + ` on one broker
  (not where it says *for all*: those are obeyed by the controller that leads). It is kept in the
  cluster's metadata with a history (` + "`rustmq admin config history`" + `), survives restarts, and is
  **over every other source, flags and files too**, as in Kafka: one broker's value, then that of all
  nodes, then what this node's own sources say. ` + "`rustmq admin config unset KEY`" + ` gives it back to them,
  and ` + "`rustmq admin config list`" + ` shows what is in effect, and from where. Kafka's tools see and alter
  the same (` + "`kafka-configs.sh --entity-type brokers`" + `), under Kafka's name where it has one.
- SIGHUP has a node read its file again, and certificates: live keys that have changed there are
  obeyed at once, and of others the log says that they wait for a restart. A file that is wrong
  changes nothing.

Durations are written ` + "`250ms`, `10s`, `1h`" + `; sizes ` + "`64KiB`, `1GiB`" + `;
prices, in dollars, ` + "`0.023`" + `, or ` + "`list`" + `: the list price of the store
that ` + "`object_storage.url`" + ` names ([cost.md](cost.md) has them all).

The sizes bound what is held in memory. Garbage comes on top of what is held until it
is collected: 128 MiB, or as much as a collection has to look at (metadata, groups and
indexes, not records), and never more than is held. In a control group with a memory
limit all that is kept to four fifths of the limit. ` + "`GOMEMLIMIT`" + ` in the environment
takes the place of both, ` + "`GOGC`" + ` of the former.

Two of them stand for more than one budget. ` + "`network.request_memory`" + ` is that of requests
as they come; as much again may be decoded of them, and as much again be kept by those
that wait. ` + "`network.response_memory`" + ` is that of records that consumers have fetched and
not taken; as much again may be other answers that are large. These have a bound and no
key:

| what | at most |
|---|---|
| consumer groups with their offsets | 1 GiB |
| transactional ids with what they write to | 1 GiB |
| where batches lie in the log | 256 MiB |
| batches that are given another codec, for topics with a ` + "`compression.type`" + ` | 192 MiB |
| batches that inline modules change | 192 MiB, or one that takes more |
| instances of modules | ` + "`memory_bytes`" + ` by ` + "`instances`" + ` of each module ([etl.md](etl.md)) |
| fetch sessions | 10,000, of 1,048,576 partitions, each about 400 bytes |
| producers that partitions remember | 100,000 of new ones, of one topic 50,000, and no more than as many again that those who lead partitions followed here have, each up to 300 bytes |
| answers that are not large | 16 KiB for each connection |

Metadata grows with the partitions that there are, and what the HTTP interface answers is
bounded by nothing but its time.
`)
	section := ""
	def := Default()
	for _, k := range Keys() {
		if k.Section != section {
			section = k.Section
			fmt.Fprintf(&b, "\n## [%s]\n\n| key | type | default | changes | what |\n|---|---|---|---|---|\n", section)
		}
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s | %s |\n", k.Name[len(k.Section)+1:], k.Type, def.Value(k), liveDoc(k), k.Doc)
	}
	return b.String()
}
