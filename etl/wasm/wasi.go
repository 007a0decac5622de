package wasm

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/rand/v2"

	"github.com/bytecodealliance/wasmtime-go/v39"
)

// Error numbers of WASI preview 1.
const (
	wasiOK      = 0
	wasiBadFile = 8
	wasiFault   = 21
	wasiInvalid = 28
	wasiNoSys   = 52
)

// What one call of WASI may ask for; nothing interrupts the host's own work.
const (
	maxRandom        = 1 << 20
	maxVectors       = 1 << 10
	maxSubscriptions = 64
)

// wasiFunctions is WASI preview 1, all of it, so that what Go and Rust link links: what
// is not granted answers ENOSYS. There is no file but 1 and 2, no argument, no
// environment, and no time but the batch's.
func wasiFunctions() map[string]function {
	functions := map[string]function{}
	for name, kind := range map[string]string{
		"fd_advise": "iIIi", "fd_allocate": "iII", "fd_close": "i", "fd_datasync": "i",
		"fd_fdstat_set_flags": "ii", "fd_fdstat_set_rights": "iII", "fd_filestat_get": "ii",
		"fd_filestat_set_size": "iI", "fd_filestat_set_times": "iIIi", "fd_pread": "iiiIi",
		"fd_pwrite": "iiiIi", "fd_read": "iiii", "fd_readdir": "iiiIi", "fd_renumber": "ii",
		"fd_seek": "iIii", "fd_sync": "i", "fd_tell": "ii",
		"path_create_directory": "iii", "path_filestat_get": "iiiii", "path_filestat_set_times": "iiiiIIi",
		"path_link": "iiiiiii", "path_open": "iiiiiIIii", "path_readlink": "iiiiii",
		"path_remove_directory": "iii", "path_rename": "iiiiii", "path_symlink": "iiiii", "path_unlink_file": "iii",
		"proc_raise": "i", "sock_accept": "iii", "sock_recv": "iiiiii", "sock_send": "iiiii", "sock_shutdown": "ii",
	} {
		functions[name] = wasi(kind, func(*instance, []byte, []wasmtime.Val) int32 { return wasiNoSys })
	}
	none := wasi("ii", func(*instance, []byte, []wasmtime.Val) int32 { return wasiOK })
	functions["args_get"], functions["environ_get"] = none, none
	functions["args_sizes_get"], functions["environ_sizes_get"] = wasi("ii", noSizes), wasi("ii", noSizes)
	functions["sched_yield"] = wasi("", func(*instance, []byte, []wasmtime.Val) int32 { return wasiOK })
	functions["clock_res_get"] = wasi("ii", clockResolution)
	functions["clock_time_get"] = wasi("iIi", clockTime)
	functions["random_get"] = wasi("ii", random)
	functions["poll_oneoff"] = wasi("iiii", poll)
	functions["fd_write"] = wasi("iiii", write)
	functions["fd_fdstat_get"] = wasi("ii", fileStatus)
	// Go and C look for directories from 3 on, until one is no file.
	noFile := func(*instance, []byte, []wasmtime.Val) int32 { return wasiBadFile }
	functions["fd_prestat_get"], functions["fd_prestat_dir_name"] = wasi("ii", noFile), wasi("iii", noFile)
	functions["proc_exit"] = function{"i:", func(i *instance, _ *wasmtime.Caller, args []wasmtime.Val) ([]wasmtime.Val, *wasmtime.Trap) {
		i.host.exited, i.host.exit = true, args[0].I32()
		return nil, wasmtime.NewTrap("proc_exit")
	}}
	return functions
}

// wasi is a function that is given the guest's memory, and returns an error number.
func wasi(params string, call func(i *instance, memory []byte, args []wasmtime.Val) int32) function {
	return function{params + ":i", func(i *instance, c *wasmtime.Caller, args []wasmtime.Val) ([]wasmtime.Val, *wasmtime.Trap) {
		return []wasmtime.Val{wasmtime.ValI32(call(i, i.seen(c), args))}, nil
	}}
}

// place returns the n bytes at address, or nil when they are not all in memory.
func place(memory []byte, address int32, n uint64) []byte {
	from := uint64(uint32(address))
	if n > uint64(len(memory)) || from > uint64(len(memory))-n {
		return nil
	}
	return memory[from : from+n : from+n]
}

func noSizes(_ *instance, memory []byte, args []wasmtime.Val) int32 {
	number, size := place(memory, args[0].I32(), 4), place(memory, args[1].I32(), 4)
	if number == nil || size == nil {
		return wasiFault
	}
	clear(number)
	clear(size)
	return wasiOK
}

func clockResolution(_ *instance, memory []byte, args []wasmtime.Val) int32 {
	result := place(memory, args[1].I32(), 8)
	if result == nil {
		return wasiFault
	}
	binary.LittleEndian.PutUint64(result, 1_000_000)
	return wasiOK
}

// clockTime answers the realtime clock with the batch's time. Every other clock shows the
// same, but never goes back, for batches may be older than the one before.
func clockTime(i *instance, memory []byte, args []wasmtime.Val) int32 {
	result := place(memory, args[2].I32(), 8)
	if result == nil {
		return wasiFault
	}
	binary.LittleEndian.PutUint64(result, uint64(i.host.clock(uint32(args[0].I32()))))
	return wasiOK
}

func random(i *instance, memory []byte, args []wasmtime.Val) int32 {
	n := uint32(args[1].I32())
	if n > maxRandom {
		return wasiInvalid
	}
	b := place(memory, args[0].I32(), uint64(n))
	if b == nil {
		return wasiFault
	}
	if i.host.random == nil {
		i.host.random = rand.NewChaCha8(i.randomSeed())
	}
	_, _ = i.host.random.Read(b) // never fails
	return wasiOK
}

// randomSeed is of the module and of what it is called with; not of its version's number
// or name.
func (i *instance) randomSeed() [32]byte {
	h := sha256.New()
	h.Write(i.module.code.hash[:])
	if b := i.batch; b != nil {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(b.Timestamp)))
		h.Write(binary.LittleEndian.AppendUint32(nil, uint32(b.Partition)))
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(b.Records))))
		if len(b.Records) > 0 {
			h.Write(binary.LittleEndian.AppendUint64(nil, uint64(b.Records[0].Offset)))
		}
		h.Write([]byte(b.Topic))
	}
	return [32]byte(h.Sum(nil))
}

// write logs what goes to 1 and 2.
func write(i *instance, memory []byte, args []wasmtime.Val) int32 {
	fd, number := args[0].I32(), uint32(args[2].I32())
	if fd != 1 && fd != 2 {
		return wasiBadFile
	}
	if number > maxVectors {
		return wasiInvalid
	}
	vectors, written := place(memory, args[1].I32(), uint64(number)*8), place(memory, args[3].I32(), 4)
	if vectors == nil || written == nil {
		return wasiFault
	}
	total := uint64(0)
	for ; len(vectors) > 0; vectors = vectors[8:] {
		n := binary.LittleEndian.Uint32(vectors[4:])
		b := place(memory, int32(binary.LittleEndian.Uint32(vectors)), uint64(n))
		if b == nil {
			return wasiFault
		}
		if total += uint64(n); total > math.MaxUint32 {
			return wasiInvalid
		}
		i.host.write(int(fd-1), b)
	}
	binary.LittleEndian.PutUint32(written, uint32(total))
	return wasiOK
}

// fileStatus says that 1 and 2 are character devices that can be written.
func fileStatus(_ *instance, memory []byte, args []wasmtime.Val) int32 {
	const device, mayWrite = 2, 1 << 6
	if fd := args[0].I32(); fd != 1 && fd != 2 {
		return wasiBadFile
	}
	status := place(memory, args[1].I32(), 24)
	if status == nil {
		return wasiFault
	}
	clear(status)
	status[0] = device
	binary.LittleEndian.PutUint64(status[8:], mayWrite)
	return wasiOK
}

// poll waits for a clock without waiting: the guest's time moves on to the earliest.
// Files are never ready.
func poll(i *instance, memory []byte, args []wasmtime.Val) int32 {
	const subscription, event = 48, 32
	number := uint32(args[2].I32())
	if number == 0 || number > maxSubscriptions {
		return wasiInvalid
	}
	in, out := place(memory, args[0].I32(), uint64(number)*subscription), place(memory, args[1].I32(), uint64(number)*event)
	result := place(memory, args[3].I32(), 4)
	if in == nil || out == nil || result == nil {
		return wasiFault
	}
	le := binary.LittleEndian
	// waits is how long the subscription waits, in ns, and whether it is one of a clock.
	waits := func(s []byte) (uint64, bool) {
		const absolute = 1
		timeout := le.Uint64(s[24:])
		if s[8] != 0 {
			return 0, false
		}
		if le.Uint16(s[40:])&absolute != 0 {
			return timeout - min(timeout, uint64(i.host.clock(le.Uint32(s[16:])))), true
		}
		return timeout, true
	}
	first, clocks := uint64(math.MaxUint64), false
	for n := range number {
		if d, clock := waits(in[n*subscription:]); clock {
			first, clocks = min(first, d), true
		}
	}
	events := uint32(0)
	for n := range number {
		s := in[n*subscription:][:subscription]
		d, clock := waits(s)
		if clock && d > first {
			continue
		}
		e := out[events*event:][:event]
		user, kind := le.Uint64(s), s[8]
		clear(e)
		le.PutUint64(e, user)
		if !clock {
			le.PutUint16(e[8:], wasiBadFile)
		}
		e[10] = kind
		events++
	}
	if clocks {
		i.host.wait(first)
	}
	le.PutUint32(result, events)
	return wasiOK
}
