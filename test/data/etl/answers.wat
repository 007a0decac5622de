;; A module for tests: what becomes of a record is said by the first byte of its value.
;; d is dropped, r rejected with the reason "told so", x a trap, l a loop without end; any other
;; value is replaced by the module's config. A config that begins with n is refused.
(module
  (memory (export "memory") 80)
  (global $length (mut i32) (i32.const 0))
  (data (i32.const 512) "told so")
  (data (i32.const 520) "no is no config")
  (func (export "rustmq_abi") (result i32) (i32.const 1))
  (func (export "rustmq_buffer") (param $size i32) (result i32)
    (select (i32.const 65536) (i32.const 0) (i32.le_u (local.get $size) (i32.const 2097152))))
  (func (export "rustmq_init") (param $size i32) (result i64)
    (if (i32.gt_u (local.get $size) (i32.const 60000)) (then (unreachable)))
    (memory.copy (i32.const 1024) (i32.const 65536) (local.get $size))
    (global.set $length (local.get $size))
    (if (result i64) (i32.eq (i32.load8_u (i32.const 1024)) (i32.const 110))
      (then (i64.or (i64.shl (i64.const 520) (i64.const 32)) (i64.const 15)))
      (else (i64.const 0))))
  (func (export "rustmq_transform") (param $size i32) (result i64)
    (local $n i32) (local $i i32) (local $record i32) (local $out i32) (local $first i32)
    (local.set $n (i32.load (i32.const 65536)))
    (local.set $out (i32.const 3145728))
    (block $end
      (loop $next
        (br_if $end (i32.ge_u (local.get $i) (local.get $n)))
        (local.set $record (i32.add (i32.const 65568) (i32.mul (local.get $i) (i32.const 48))))
        (memory.fill (local.get $out) (i32.const 0) (i32.const 40))
        (local.set $first (i32.const 0))
        (if (i32.gt_s (i32.load offset=28 (local.get $record)) (i32.const 0))
          (then (local.set $first (i32.load8_u (i32.load offset=24 (local.get $record))))))
        (if (i32.eq (local.get $first) (i32.const 120)) (then (unreachable)))
        (if (i32.eq (local.get $first) (i32.const 108)) (then (loop $ever (br $ever))))
        (if (i32.eq (local.get $first) (i32.const 100))
          (then (i32.store (local.get $out) (i32.const 1)))
          (else
            (if (i32.eq (local.get $first) (i32.const 114))
              (then
                (i32.store (local.get $out) (i32.const 3))
                (i32.store offset=32 (local.get $out) (i32.const 512))
                (i32.store offset=36 (local.get $out) (i32.const 7)))
              (else
                (i32.store offset=4 (local.get $out) (i32.const 2))
                (i32.store offset=16 (local.get $out) (i32.const 1024))
                (i32.store offset=20 (local.get $out) (global.get $length))))))
        (local.set $out (i32.add (local.get $out) (i32.const 40)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    (i64.or (i64.shl (i64.const 3145728) (i64.const 32)) (i64.extend_i32_u (i32.mul (local.get $n) (i32.const 40))))))
