// Command document prints docs/kafka-compatibility.md, which package compatibility
// makes from the tables of the broker and of package configs.
package main
