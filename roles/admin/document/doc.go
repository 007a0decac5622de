// Command document prints docs/admin-authorisation.md: what each call of the admin API asks
// for, from the code that asks. With the argument types it prints console/src/types.ts.
package main
