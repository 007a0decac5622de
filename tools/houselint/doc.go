// Package main of houselint checks the layout rules of this repository: which
// room may import which (docs/architecture.md), that storage and consensus
// reach files only through storage/disk, who links the engine of transforms, that every package has a doc.go, that
// tests do not sleep, that no file is longer than 700 lines, and that docs/dependencies.md says what each direct
// dependency of the root module and of sdk/rust is for, and docs/architecture.md and docs/threat-model.md name only tests that exist. It knows
// nothing of what the code does.
package main
