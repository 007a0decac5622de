// Package crc puts CRC32C checksums together: that of bytes of which the parts have
// known ones costs no pass over them. It has no state: all of it is safe for concurrent
// use.
package crc
