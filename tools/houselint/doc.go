// Package main of houselint checks the layout rules of this repository: which
// room may import which (docs/architecture.md), that storage and consensus
// reach files only through storage/disk, that every package has a doc.go, and
// that tests do not sleep. It knows nothing of what the code does.
package main
