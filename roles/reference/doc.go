// Command reference writes what all commands are from the code that runs them: as Markdown
// for docs/reference/cli.md (`make generate`), or as pages of the manual into a directory
// (`make man`).
package main
