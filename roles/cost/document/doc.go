// Command document prints docs/cost.md, which package cost calculates from the
// list prices and defaults of package configs.
package main
