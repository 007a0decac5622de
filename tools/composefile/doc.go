// Command composefile reads a compose file as Docker Compose does, by the library that it is
// made of, and prints what it comes to as JSON: its schema is checked, its variables are
// filled in from the environment, and relative paths are absolute.
//
//	composefile FILE
package main
