;; The world `baton:data/function` of sdk/wit/data.wit by hand, around the module `$m` that a test brings: MODULE stands for it.
(component
  (import "baton:data/buffer@0.1.0" (instance $buffers
    (export "buffer" (type $buffer (sub resource)))
    (type $why (variant (case "pool-full") (case "out-of-range") (case "read-only") (case "not-frozen")
      (case "denied" string)))
    (export "error" (type $error (eq $why)))
    (type $made (result (own $buffer) (error $error)))
    (type $done (result (error $error)))
    (type $got (result (list u8) (error $error)))
    (export "[static]buffer.alloc" (func (param "len" u64) (result $made)))
    (export "[static]buffer.from-bytes" (func (param "bytes" (list u8)) (result $made)))
    (export "[method]buffer.length" (func (param "self" (borrow $buffer)) (result u64)))
    (export "[method]buffer.read"
      (func (param "self" (borrow $buffer)) (param "offset" u64) (param "len" u64) (result $got)))
    (export "[method]buffer.write"
      (func (param "self" (borrow $buffer)) (param "offset" u64) (param "bytes" (list u8)) (result $done)))
    (export "[method]buffer.freeze" (func (param "self" (borrow $buffer)) (result $done)))
    (export "[method]buffer.slice"
      (func (param "self" (borrow $buffer)) (param "offset" u64) (param "len" u64) (result $made)))))
  (alias export $buffers "buffer" (type $buffer))
  (import "baton:data/messages@0.1.0" (instance $messages
    (alias outer 1 $buffer (type $outer))
    (export "buffer" (type $buffer (eq $outer)))
    (type $a-header (tuple string (list u8)))
    (export "header" (type $header (eq $a-header)))
    (type $a-request (record (field "method" string) (field "path" string) (field "headers" (list $header))
      (field "payload" (option (own $buffer)))))
    (export "request" (type (eq $a-request)))
    (type $a-response (record (field "status" u16) (field "headers" (list $header))
      (field "payload" (option (own $buffer)))))
    (export "response" (type (eq $a-response)))
    (type $a-failure (record (field "status" u16) (field "message" string)))
    (export "failure" (type (eq $a-failure)))))
  (alias export $messages "request" (type $request))
  (alias export $messages "response" (type $response))
  (alias export $messages "failure" (type $failure))
  (import "baton:data/calls@0.1.0" (instance $calls
    (alias outer 1 $request (type $a-request))
    (export "request" (type $request (eq $a-request)))
    (alias outer 1 $response (type $a-response))
    (export "response" (type $response (eq $a-response)))
    (alias outer 1 $failure (type $a-failure))
    (export "failure" (type $failure (eq $a-failure)))
    (export "call" (func (param "function" string) (param "request" $request)
      (result (result $response (error $failure)))))))
  ;; A resource of its own, whose handles lie in the same table as those of payloads.
  (type $own (resource (rep i32)))
  (core func $own-new (canon resource.new $own))

  ;; Memory: text and results below 64 KiB, what the host brings from there on, by a function that only goes up.
  (core module $libc
    (memory (export "memory") 4 65536)
    (global $top (mut i32) (i32.const 65536))
    (global $trap (export "trap") (mut i32) (i32.const 0))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
      (if (global.get $trap) (then (unreachable)))
      (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
      (global.set $top (i32.add (local.get $at) (local.get 3)))
      (block $fits
        (br_if $fits (i32.le_u (global.get $top) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $fits (i32.ne (i32.const -1)
          (memory.grow (i32.add (i32.div_u (local.get 3) (i32.const 65536)) (i32.const 1)))))
        (unreachable))
      (local.get $at)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))

  (core func $drop (canon resource.drop $buffer))
  (core func $alloc (canon lower (func $buffers "[static]buffer.alloc") (memory $memory) (realloc $realloc)))
  (core func $from-bytes (canon lower (func $buffers "[static]buffer.from-bytes") (memory $memory) (realloc $realloc)))
  (core func $length (canon lower (func $buffers "[method]buffer.length")))
  (core func $read (canon lower (func $buffers "[method]buffer.read") (memory $memory) (realloc $realloc)))
  (core func $write (canon lower (func $buffers "[method]buffer.write") (memory $memory) (realloc $realloc)))
  (core func $freeze (canon lower (func $buffers "[method]buffer.freeze") (memory $memory) (realloc $realloc)))
  (core func $slice (canon lower (func $buffers "[method]buffer.slice") (memory $memory) (realloc $realloc)))
  (core func $call (canon lower (func $calls "call") (memory $memory) (realloc $realloc)))

  MODULE

  (core instance $i (instantiate $m
    (with "libc" (instance $libc))
    (with "b" (instance
      (export "drop" (func $drop)) (export "alloc" (func $alloc)) (export "from-bytes" (func $from-bytes))
      (export "length" (func $length)) (export "read" (func $read)) (export "write" (func $write))
      (export "freeze" (func $freeze)) (export "slice" (func $slice)) (export "call" (func $call))
      (export "own-new" (func $own-new))))))
  (func $handle (param "request" $request) (result (result $response (error $failure)))
    (canon lift (core func $i "handle") (memory $memory) (realloc $realloc)))
  (instance $handler (export "handle" (func $handle)))
  (export "baton:data/handler@0.1.0" (instance $handler)))
