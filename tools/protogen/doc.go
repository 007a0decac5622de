// Command protogen compiles .proto files without protoc: it builds their
// descriptors itself and hands them to the ordinary generator plugins.
//
//	protogen [-root DIR] [-plugin protoc-gen-go]... PATH...
//
// PATH is a .proto file, or a directory for all of them in it, relative to DIR.
// DIR is also where imports are looked up and the root of the Go module that
// generated files are written into. A plugin is the name of a tool of
// tools/go.mod.
package main
