package test

import "syscall"

// mortal has a process end with the one that has started it, also by a kill.
func mortal() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
