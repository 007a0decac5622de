//go:build !linux

package test

import "syscall"

// mortal is for Linux alone.
func mortal() *syscall.SysProcAttr { return nil }
