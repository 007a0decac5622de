package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	root := flag.String("root", ".", "directory of the Go module, against which PATHs and imports are looked up")
	module := flag.String("module", "rustmq.dev/rustmq", "module path, stripped from go_package to find the output directory")
	var plugins []string
	flag.Func("plugin", "generator to run, a tool of tools/go.mod (repeatable; default protoc-gen-go)", func(s string) error {
		plugins = append(plugins, s)
		return nil
	})
	flag.Parse()
	if len(plugins) == 0 {
		plugins = []string{"protoc-gen-go"}
	}
	if err := run(context.Background(), *root, *module, plugins, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, root, module string, plugins, paths []string) error {
	files, err := protoFiles(root, paths)
	if err != nil {
		return err
	}
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{root}}),
		SourceInfoMode: protocompile.SourceInfoStandard, // comments reach the generated code
	}
	compiled, err := compiler.Compile(ctx, files...)
	if err != nil {
		return err
	}
	request := &pluginpb.CodeGeneratorRequest{
		FileToGenerate: files,
		Parameter:      proto.String("module=" + module),
		// What is printed at the head of generated files; there is no protoc here.
		CompilerVersion: &pluginpb.Version{Major: proto.Int32(0), Minor: proto.Int32(0), Patch: proto.Int32(0), Suffix: proto.String("protogen")},
	}
	seen := map[string]bool{}
	for _, file := range compiled {
		addWithImports(request, file, seen)
	}
	input, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	for _, plugin := range plugins {
		if err := generate(ctx, root, plugin, input); err != nil {
			return fmt.Errorf("%s: %w", plugin, err)
		}
	}
	return nil
}

// protoFiles returns the .proto files that paths name, in order.
func protoFiles(root string, paths []string) (files []string, err error) {
	for _, path := range paths {
		if strings.HasSuffix(path, ".proto") {
			files = append(files, path)
			continue
		}
		found, err := fs.Glob(os.DirFS(root), filepath.ToSlash(filepath.Clean(path))+"/*.proto")
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no .proto file in %v", paths)
	}
	return files, nil
}

// addWithImports appends file behind everything it imports, as plugins demand.
func addWithImports(request *pluginpb.CodeGeneratorRequest, file protoreflect.FileDescriptor, seen map[string]bool) {
	if seen[file.Path()] {
		return
	}
	seen[file.Path()] = true
	for i := range file.Imports().Len() {
		addWithImports(request, file.Imports().Get(i).FileDescriptor, seen)
	}
	described := protodesc.ToFileDescriptorProto(file)
	request.ProtoFile = append(request.ProtoFile, described)
}

func generate(ctx context.Context, root, plugin string, input []byte) error {
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", "tool", "-modfile="+filepath.Join("tools", "go.mod"), plugin)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = root, bytes.NewReader(input), &output, os.Stderr
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if err := cmd.Run(); err != nil {
		return err
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(output.Bytes(), &response); err != nil {
		return err
	}
	if response.Error != nil {
		return fmt.Errorf("%s", response.GetError())
	}
	for _, f := range response.GetFile() {
		name := filepath.Join(root, filepath.FromSlash(f.GetName()))
		if !strings.HasSuffix(name, ".go") {
			return fmt.Errorf("refusing to write %s", name)
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		// A file that is as it should be is left alone: somebody may compile it.
		if was, err := os.ReadFile(name); err == nil && string(was) == f.GetContent() {
			continue
		}
		if err := os.WriteFile(name, []byte(f.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
