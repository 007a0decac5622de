// Package metadatapb is the generated form of command.proto and snapshot.proto
// in consensus/metadata, which says what the messages mean and which of them
// may be written. It promises nothing of its own; `make generate` remakes it.
package metadatapb
