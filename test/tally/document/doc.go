// Command document prints docs/reliability.md, made of test/tally/results.json.
package main
