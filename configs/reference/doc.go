// Command reference prints docs/configuration.md, which is made from the keys
// of package configs.
package main
