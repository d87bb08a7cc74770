; Running an entry on tensors that a C program describes. Layouts and status codes are those of convc.h.

%Tensor = type { i64, ptr, i32, i32, i32, i8, i8, i16, ptr, ptr, i64 }
%TensorInfo = type { i64, ptr, i8, i8, i16, i32, ptr }
%Extent = type { i64, i64, i64 }
%Entry = type { i64, ptr, i32, i32, ptr, ptr, %Extent, ptr }
; the fields of convc_model up to state_size, the last that is read here
%Model = type { i64, i32, i32, i32, i32, ptr, ptr, ptr, ptr, ptr, i64, ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr, i32, i32, ptr, i64 }
%Run = type { i64, i32, i32, i32, i32, ptr, ptr, ptr, i64, ptr, ptr, ptr, ptr, ptr }
%Error = type { i64, i32, i32, i32, i32, i64, i64 }
%Call = type { i64, ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr }

; Fills in the error, if the host wants one, and returns the status.
define internal i32 @model_fail(ptr %error, i32 %status, i32 %is_output, i32 %tensor, i32 %dimension, i64 %expected, i64 %got) {
entry:
  %wanted = icmp ne ptr %error, null
  br i1 %wanted, label %measure, label %done
measure:
  %size = load i64, ptr %error
  %large = icmp uge i64 %size, 40
  br i1 %large, label %fill, label %done
fill:
  %status.at = getelementptr %Error, ptr %error, i64 0, i32 1
  store i32 %status, ptr %status.at
  %output.at = getelementptr %Error, ptr %error, i64 0, i32 2
  store i32 %is_output, ptr %output.at
  %tensor.at = getelementptr %Error, ptr %error, i64 0, i32 3
  store i32 %tensor, ptr %tensor.at
  %dimension.at = getelementptr %Error, ptr %error, i64 0, i32 4
  store i32 %dimension, ptr %dimension.at
  %expected.at = getelementptr %Error, ptr %error, i64 0, i32 5
  store i64 %expected, ptr %expected.at
  %got.at = getelementptr %Error, ptr %error, i64 0, i32 6
  store i64 %got, ptr %got.at
  br label %done
done:
  ret i32 %status
}

declare { i64, i1 } @llvm.smul.with.overflow.i64(i64, i64)
declare i64 @llvm.sadd.sat.i64(i64, i64)

; constant + coefficient * symbols[symbol], or the constant where there is no symbol (-1). What doesn't fit is the
; largest number: no array is as long, no memory is as large.
define internal i64 @model_extent(ptr %extent, ptr %symbols) {
entry:
  %constant = load i64, ptr %extent
  %symbol.at = getelementptr %Extent, ptr %extent, i64 0, i32 2
  %symbol = load i64, ptr %symbol.at
  %symbolic = icmp sge i64 %symbol, 0
  br i1 %symbolic, label %term, label %plain
term:
  %coefficient.at = getelementptr %Extent, ptr %extent, i64 0, i32 1
  %coefficient = load i64, ptr %coefficient.at
  %value.at = getelementptr i64, ptr %symbols, i64 %symbol
  %value = load i64, ptr %value.at
  %wide = call { i64, i1 } @llvm.smul.with.overflow.i64(i64 %coefficient, i64 %value)
  %product = extractvalue { i64, i1 } %wide, 0
  %over = extractvalue { i64, i1 } %wide, 1
  %sum = call i64 @llvm.sadd.sat.i64(i64 %constant, i64 %product)
  %result = select i1 %over, i64 9223372036854775807, i64 %sum
  ret i64 %result
plain:
  ret i64 %constant
}

; Everything about a tensor but its shape: pointers, device, dtype, rank.
define internal i32 @model_check_kind(ptr %tensor, ptr %info, i32 %is_output, i32 %index, ptr %error) {
entry:
  %size = load i64, ptr %tensor
  %large = icmp uge i64 %size, 56
  %data.at = getelementptr %Tensor, ptr %tensor, i64 0, i32 1
  %data = load ptr, ptr %data.at
  %has.data = icmp ne ptr %data, null
  %rank.at = getelementptr %Tensor, ptr %tensor, i64 0, i32 4
  %rank = load i32, ptr %rank.at
  %shape.at = getelementptr %Tensor, ptr %tensor, i64 0, i32 8
  %shape = load ptr, ptr %shape.at
  %has.shape = icmp ne ptr %shape, null
  %scalar = icmp eq i32 %rank, 0
  %shaped = or i1 %has.shape, %scalar
  %given = and i1 %has.data, %shaped
  %valid = and i1 %large, %given
  br i1 %valid, label %devices, label %bad.argument
bad.argument:
  %r1 = call i32 @model_fail(ptr %error, i32 1, i32 %is_output, i32 %index, i32 -1, i64 56, i64 %size)
  ret i32 %r1

devices:
  %device.at = getelementptr %Tensor, ptr %tensor, i64 0, i32 2
  %device = load i32, ptr %device.at
  %cpu = icmp eq i32 %device, 1
  br i1 %cpu, label %dtype, label %bad.device
bad.device:
  %device.wide = sext i32 %device to i64
  %r2 = call i32 @model_fail(ptr %error, i32 10, i32 %is_output, i32 %index, i32 -1, i64 1, i64 %device.wide)
  ret i32 %r2

dtype:
  ; code, bits and lanes in one word, as they lie in memory
  %got.at = getelementptr %Tensor, ptr %tensor, i64 0, i32 5
  %got = load i32, ptr %got.at
  %want.at = getelementptr %TensorInfo, ptr %info, i64 0, i32 2
  %want = load i32, ptr %want.at
  %same = icmp eq i32 %got, %want
  br i1 %same, label %ranks, label %bad.dtype
bad.dtype:
  %got.wide = zext i32 %got to i64
  %want.wide = zext i32 %want to i64
  %r3 = call i32 @model_fail(ptr %error, i32 6, i32 %is_output, i32 %index, i32 -1, i64 %want.wide, i64 %got.wide)
  ret i32 %r3

ranks:
  %want.rank.at = getelementptr %TensorInfo, ptr %info, i64 0, i32 5
  %want.rank = load i32, ptr %want.rank.at
  %same.rank = icmp eq i32 %rank, %want.rank
  br i1 %same.rank, label %ok, label %bad.rank
bad.rank:
  %rank.wide = sext i32 %rank to i64
  %want.rank.wide = sext i32 %want.rank to i64
  %r4 = call i32 @model_fail(ptr %error, i32 7, i32 %is_output, i32 %index, i32 -1, i64 %want.rank.wide, i64 %rank.wide)
  ret i32 %r4
ok:
  ret i32 0
}

; Gives every symbol that is still -1 the extent of a dimension that is this symbol alone.
define internal void @model_bind(ptr %tensor, ptr %info, ptr %symbols) {
entry:
  %rank.at = getelementptr %TensorInfo, ptr %info, i64 0, i32 5
  %rank = load i32, ptr %rank.at
  %n = zext i32 %rank to i64
  %extents.at = getelementptr %TensorInfo, ptr %info, i64 0, i32 6
  %extents = load ptr, ptr %extents.at
  %shape.at = getelementptr %Tensor, ptr %tensor, i64 0, i32 8
  %shape = load ptr, ptr %shape.at
  br label %next
next:
  %d = phi i64 [ 0, %entry ], [ %d.next, %skip ]
  %more = icmp ult i64 %d, %n
  br i1 %more, label %look, label %done
look:
  %extent = getelementptr %Extent, ptr %extents, i64 %d
  %constant = load i64, ptr %extent
  %coefficient.at = getelementptr %Extent, ptr %extent, i64 0, i32 1
  %coefficient = load i64, ptr %coefficient.at
  %symbol.at = getelementptr %Extent, ptr %extent, i64 0, i32 2
  %symbol = load i64, ptr %symbol.at
  %none = icmp eq i64 %constant, 0
  %once = icmp eq i64 %coefficient, 1
  %symbolic = icmp sge i64 %symbol, 0
  %single = and i1 %none, %once
  %alone = and i1 %single, %symbolic
  br i1 %alone, label %unset, label %skip
unset:
  %value.at = getelementptr i64, ptr %symbols, i64 %symbol
  %value = load i64, ptr %value.at
  %free = icmp slt i64 %value, 0
  br i1 %free, label %set, label %skip
set:
  %got.at = getelementptr i64, ptr %shape, i64 %d
  %got = load i64, ptr %got.at
  store i64 %got, ptr %value.at
  br label %skip
skip:
  %d.next = add i64 %d, 1
  br label %next
done:
  ret void
}

; Every dimension as expected, strides, if given, those of C order, and no more bytes than a pointer can reach.
define internal i32 @model_check_shape(ptr %tensor, ptr %info, ptr %symbols, i32 %is_output, i32 %index, ptr %error) {
entry:
  %rank.at = getelementptr %TensorInfo, ptr %info, i64 0, i32 5
  %rank = load i32, ptr %rank.at
  %n = zext i32 %rank to i64
  %extents.at = getelementptr %TensorInfo, ptr %info, i64 0, i32 6
  %extents = load ptr, ptr %extents.at
  %shape.at = getelementptr %Tensor, ptr %tensor, i64 0, i32 8
  %shape = load ptr, ptr %shape.at
  %strides.at = getelementptr %Tensor, ptr %tensor, i64 0, i32 9
  %strides = load ptr, ptr %strides.at
  %bits.at = getelementptr %TensorInfo, ptr %info, i64 0, i32 3
  %bits = load i8, ptr %bits.at
  %bits.wide = zext i8 %bits to i64
  %bits.up = add i64 %bits.wide, 7
  %item = lshr i64 %bits.up, 3
  %strided = icmp ne ptr %strides, null
  br label %next
next:
  %left = phi i64 [ %n, %entry ], [ %d, %step ]
  %stride = phi i64 [ %item, %entry ], [ %stride.next, %step ]
  %more = icmp ne i64 %left, 0
  br i1 %more, label %look, label %ok
look:
  %d = sub i64 %left, 1
  %extent = getelementptr %Extent, ptr %extents, i64 %d
  %expected = call i64 @model_extent(ptr %extent, ptr %symbols)
  %got.at = getelementptr i64, ptr %shape, i64 %d
  %got = load i64, ptr %got.at
  %same = icmp eq i64 %got, %expected
  %natural = icmp sge i64 %got, 0
  %fits = and i1 %same, %natural
  br i1 %fits, label %check.stride, label %bad.shape
check.stride:
  %several = icmp ne i64 %got, 1
  %matters = and i1 %strided, %several
  br i1 %matters, label %compare, label %step
compare:
  %its.at = getelementptr i64, ptr %strides, i64 %d
  %its = load i64, ptr %its.at
  %contiguous = icmp eq i64 %its, %stride
  br i1 %contiguous, label %step, label %bad.stride
step:
  %wide = call { i64, i1 } @llvm.smul.with.overflow.i64(i64 %stride, i64 %got)
  %stride.next = extractvalue { i64, i1 } %wide, 0
  %over = extractvalue { i64, i1 } %wide, 1
  br i1 %over, label %bad.shape, label %next
bad.shape:
  %d.shape = trunc i64 %d to i32
  %r1 = call i32 @model_fail(ptr %error, i32 8, i32 %is_output, i32 %index, i32 %d.shape, i64 %expected, i64 %got)
  ret i32 %r1
bad.stride:
  %d.stride = trunc i64 %d to i32
  %r2 = call i32 @model_fail(ptr %error, i32 9, i32 %is_output, i32 %index, i32 %d.stride, i64 %stride, i64 %its)
  ret i32 %r2
ok:
  ret i32 0
}

; A tensor without elements, for these symbols.
define internal i32 @model_check_empty(ptr %info, ptr %symbols, i32 %is_output, i32 %index, ptr %error) {
entry:
  %rank.at = getelementptr %TensorInfo, ptr %info, i64 0, i32 5
  %rank = load i32, ptr %rank.at
  %n = zext i32 %rank to i64
  %extents.at = getelementptr %TensorInfo, ptr %info, i64 0, i32 6
  %extents = load ptr, ptr %extents.at
  br label %next
next:
  %d = phi i64 [ 0, %entry ], [ %d.next, %look ]
  %elements = phi i64 [ 1, %entry ], [ %product, %look ]
  %more = icmp ult i64 %d, %n
  br i1 %more, label %look, label %judge
look:
  %extent = getelementptr %Extent, ptr %extents, i64 %d
  %value = call i64 @model_extent(ptr %extent, ptr %symbols)
  %product = mul i64 %elements, %value
  %d.next = add i64 %d, 1
  br label %next
judge:
  %nothing = icmp eq i64 %elements, 0
  br i1 %nothing, label %ok, label %bad
bad:
  %r = call i32 @model_fail(ptr %error, i32 8, i32 %is_output, i32 %index, i32 -1, i64 0, i64 %elements)
  ret i32 %r
ok:
  ret i32 0
}

; One pass over tensors: 0 checks kinds, 1 binds symbols, 2 checks shapes, 3 writes addresses to `pointers`, 4 checks
; that there are no elements.
define internal i32 @model_each(i32 %pass, ptr %tensors, ptr %infos, i32 %count, i32 %is_output, ptr %symbols, ptr %pointers, ptr %error) {
entry:
  %n = zext i32 %count to i64
  %some = icmp ne i64 %n, 0
  br i1 %some, label %measure, label %ok
measure:
  ; A host built with a later header has longer structs: their size says how far apart they lie.
  %size = load i64, ptr %tensors
  br label %next
next:
  %i = phi i64 [ 0, %measure ], [ %i.next, %step ]
  %more = icmp ult i64 %i, %n
  br i1 %more, label %one, label %ok
one:
  %distance = mul i64 %size, %i
  %tensor = getelementptr i8, ptr %tensors, i64 %distance
  %info = getelementptr %TensorInfo, ptr %infos, i64 %i
  %index = trunc i64 %i to i32
  switch i32 %pass, label %address [ i32 0, label %kind
    i32 1, label %bind
    i32 2, label %shape
    i32 4, label %nothing ]
kind:
  %r0 = call i32 @model_check_kind(ptr %tensor, ptr %info, i32 %is_output, i32 %index, ptr %error)
  br label %judge
bind:
  call void @model_bind(ptr %tensor, ptr %info, ptr %symbols)
  br label %step
shape:
  %r2 = call i32 @model_check_shape(ptr %tensor, ptr %info, ptr %symbols, i32 %is_output, i32 %index, ptr %error)
  br label %judge
nothing:
  %r4 = call i32 @model_check_empty(ptr %info, ptr %symbols, i32 %is_output, i32 %index, ptr %error)
  br label %judge
address:
  %data.at = getelementptr %Tensor, ptr %tensor, i64 0, i32 1
  %data = load ptr, ptr %data.at
  %offset.at = getelementptr %Tensor, ptr %tensor, i64 0, i32 10
  %offset = load i64, ptr %offset.at
  %first = getelementptr i8, ptr %data, i64 %offset
  %pointer.at = getelementptr ptr, ptr %pointers, i64 %i
  store ptr %first, ptr %pointer.at
  br label %step
judge:
  %status = phi i32 [ %r0, %kind ], [ %r2, %shape ], [ %r4, %nothing ]
  %fine = icmp eq i32 %status, 0
  br i1 %fine, label %step, label %bad
step:
  %i.next = add i64 %i, 1
  br label %next
bad:
  ret i32 %status
ok:
  ret i32 0
}

; convc_model.run: checks everything that the host described, then runs the entry.
define hidden i32 @model_run(ptr %model, ptr %run) {
entry:
  %error.at = getelementptr %Run, ptr %run, i64 0, i32 12
  %size = load i64, ptr %run
  %large = icmp uge i64 %size, 88
  br i1 %large, label %find, label %bad.size
bad.size:
  ret i32 1

find:
  %error = load ptr, ptr %error.at
  %index.at = getelementptr %Run, ptr %run, i64 0, i32 1
  %index = load i32, ptr %index.at
  %entries.count.at = getelementptr %Model, ptr %model, i64 0, i32 3
  %entries.count = load i32, ptr %entries.count.at
  %exists = icmp ult i32 %index, %entries.count
  br i1 %exists, label %counts, label %bad.entry
bad.entry:
  %index.wide = sext i32 %index to i64
  %entries.wide = sext i32 %entries.count to i64
  %r4 = call i32 @model_fail(ptr %error, i32 4, i32 0, i32 -1, i32 -1, i64 %entries.wide, i64 %index.wide)
  ret i32 %r4

counts:
  %entries.at = getelementptr %Model, ptr %model, i64 0, i32 9
  %entries = load ptr, ptr %entries.at
  %entry.index = zext i32 %index to i64
  %this = getelementptr %Entry, ptr %entries, i64 %entry.index
  %n.in.at = getelementptr %Entry, ptr %this, i64 0, i32 2
  %n.in = load i32, ptr %n.in.at
  %n.out.at = getelementptr %Entry, ptr %this, i64 0, i32 3
  %n.out = load i32, ptr %n.out.at
  %got.in.at = getelementptr %Run, ptr %run, i64 0, i32 2
  %got.in = load i32, ptr %got.in.at
  %got.out.at = getelementptr %Run, ptr %run, i64 0, i32 3
  %got.out = load i32, ptr %got.out.at
  %same.in = icmp eq i32 %n.in, %got.in
  br i1 %same.in, label %counts.out, label %bad.in
counts.out:
  %same.out = icmp eq i32 %n.out, %got.out
  br i1 %same.out, label %check, label %bad.out
bad.in:
  br label %bad.count
bad.out:
  br label %bad.count
bad.count:
  %which = phi i32 [ 0, %bad.in ], [ 1, %bad.out ]
  %want.n = phi i32 [ %n.in, %bad.in ], [ %n.out, %bad.out ]
  %got.n = phi i32 [ %got.in, %bad.in ], [ %got.out, %bad.out ]
  %want.wide = sext i32 %want.n to i64
  %got.wide = sext i32 %got.n to i64
  %r5 = call i32 @model_fail(ptr %error, i32 5, i32 %which, i32 -1, i32 -1, i64 %want.wide, i64 %got.wide)
  ret i32 %r5

check:
  %inputs.at = getelementptr %Run, ptr %run, i64 0, i32 5
  %inputs = load ptr, ptr %inputs.at
  %outputs.at = getelementptr %Run, ptr %run, i64 0, i32 6
  %outputs = load ptr, ptr %outputs.at
  %in.infos.at = getelementptr %Entry, ptr %this, i64 0, i32 4
  %in.infos = load ptr, ptr %in.infos.at
  %out.infos.at = getelementptr %Entry, ptr %this, i64 0, i32 5
  %out.infos = load ptr, ptr %out.infos.at
  %symbols.count.at = getelementptr %Model, ptr %model, i64 0, i32 2
  %symbols.count = load i32, ptr %symbols.count.at
  %symbols = alloca i64, i32 %symbols.count
  %n.symbols = zext i32 %symbols.count to i64
  br label %clear
clear:
  %s = phi i64 [ 0, %check ], [ %s.next, %clear.one ]
  %clear.more = icmp ult i64 %s, %n.symbols
  br i1 %clear.more, label %clear.one, label %kinds
clear.one:
  %s.at = getelementptr i64, ptr %symbols, i64 %s
  store i64 -1, ptr %s.at
  %s.next = add i64 %s, 1
  br label %clear

kinds:
  %k.in = call i32 @model_each(i32 0, ptr %inputs, ptr %in.infos, i32 %n.in, i32 0, ptr %symbols, ptr null, ptr %error)
  %k.in.ok = icmp eq i32 %k.in, 0
  br i1 %k.in.ok, label %kinds.out, label %stop
kinds.out:
  %k.out = call i32 @model_each(i32 0, ptr %outputs, ptr %out.infos, i32 %n.out, i32 1, ptr %symbols, ptr null, ptr %error)
  %k.out.ok = icmp eq i32 %k.out, 0
  br i1 %k.out.ok, label %shapes, label %stop
shapes:
  %bound = call i32 @model_each(i32 1, ptr %inputs, ptr %in.infos, i32 %n.in, i32 0, ptr %symbols, ptr null, ptr %error)
  %s.in = call i32 @model_each(i32 2, ptr %inputs, ptr %in.infos, i32 %n.in, i32 0, ptr %symbols, ptr null, ptr %error)
  %s.in.ok = icmp eq i32 %s.in, 0
  br i1 %s.in.ok, label %shapes.out, label %stop
shapes.out:
  %s.out = call i32 @model_each(i32 2, ptr %outputs, ptr %out.infos, i32 %n.out, i32 1, ptr %symbols, ptr null, ptr %error)
  %s.out.ok = icmp eq i32 %s.out, 0
  br i1 %s.out.ok, label %state.ask, label %stop
stop:
  %status = phi i32 [ %k.in, %kinds ], [ %k.out, %kinds.out ], [ %s.in, %shapes ], [ %s.out, %shapes.out ]
  ret i32 %status

state.ask:
  ; Hosts that were built before there was state have a shorter struct, and none to give.
  %tells = icmp uge i64 %size, 96
  br i1 %tells, label %state.given, label %state.check
state.given:
  %state.at = getelementptr %Run, ptr %run, i64 0, i32 13
  %state.host = load ptr, ptr %state.at
  br label %state.check
state.check:
  %state = phi ptr [ null, %state.ask ], [ %state.host, %state.given ]
  %state.size.at = getelementptr %Model, ptr %model, i64 0, i32 22
  %state.bytes = load i64, ptr %state.size.at
  %stateless = icmp eq i64 %state.bytes, 0
  %state.place = ptrtoint ptr %state to i64
  %state.odd = and i64 %state.place, 63
  %state.even = icmp eq i64 %state.odd, 0
  %state.there = icmp ne ptr %state, null
  %state.usable = and i1 %state.even, %state.there
  %state.fine = or i1 %stateless, %state.usable
  br i1 %state.fine, label %memory, label %bad.state
bad.state:
  %r14 = call i32 @model_fail(ptr %error, i32 14, i32 0, i32 -1, i32 -1, i64 0, i64 0)
  ret i32 %r14

memory:
  %workspace.at = getelementptr %Run, ptr %run, i64 0, i32 7
  %workspace = load ptr, ptr %workspace.at
  %has.at = getelementptr %Run, ptr %run, i64 0, i32 8
  %has = load i64, ptr %has.at
  %extent = getelementptr %Entry, ptr %this, i64 0, i32 6
  %needs = call i64 @model_extent(ptr %extent, ptr %symbols)
  %absurd = icmp eq i64 %needs, 9223372036854775807
  br i1 %absurd, label %bad.memory, label %room
room:
  %enough = icmp uge i64 %has, %needs
  br i1 %enough, label %alignment, label %bad.workspace
alignment:
  %place = ptrtoint ptr %workspace to i64
  %odd = and i64 %place, 63
  %even = icmp eq i64 %odd, 0
  %given = icmp ne ptr %workspace, null
  %nothing = icmp eq i64 %needs, 0
  %there = or i1 %given, %nothing
  %usable = and i1 %even, %there
  br i1 %usable, label %empty, label %bad.alignment
bad.memory:
  %r13 = call i32 @model_fail(ptr %error, i32 13, i32 0, i32 -1, i32 -1, i64 0, i64 0)
  ret i32 %r13
bad.workspace:
  %r11 = call i32 @model_fail(ptr %error, i32 11, i32 0, i32 -1, i32 -1, i64 %needs, i64 %has)
  ret i32 %r11
bad.alignment:
  %r12 = call i32 @model_fail(ptr %error, i32 12, i32 0, i32 -1, i32 -1, i64 64, i64 %odd)
  ret i32 %r12

empty:
  ; A batch of nothing: there is nothing to compute, unless an output has elements all the same.
  %e = phi i64 [ 0, %alignment ], [ %e.next, %empty.one ]
  %empty.more = icmp ult i64 %e, %n.symbols
  br i1 %empty.more, label %empty.one, label %invoke
empty.one:
  %e.at = getelementptr i64, ptr %symbols, i64 %e
  %value = load i64, ptr %e.at
  %e.next = add i64 %e, 1
  %zero = icmp eq i64 %value, 0
  br i1 %zero, label %done, label %empty
done:
  %none = call i32 @model_each(i32 4, ptr %outputs, ptr %out.infos, i32 %n.out, i32 1, ptr %symbols, ptr null, ptr %error)
  ret i32 %none

invoke:
  %call = alloca %Call
  %in.pointers = alloca ptr, i32 %n.in
  %out.pointers = alloca ptr, i32 %n.out
  %a.in = call i32 @model_each(i32 3, ptr %inputs, ptr %in.infos, i32 %n.in, i32 0, ptr %symbols, ptr %in.pointers, ptr %error)
  %a.out = call i32 @model_each(i32 3, ptr %outputs, ptr %out.infos, i32 %n.out, i32 1, ptr %symbols, ptr %out.pointers, ptr %error)
  store i64 72, ptr %call
  %weights.at = getelementptr %Model, ptr %model, i64 0, i32 8
  %weights = load ptr, ptr %weights.at
  %c1 = getelementptr %Call, ptr %call, i64 0, i32 1
  store ptr %weights, ptr %c1
  %c2 = getelementptr %Call, ptr %call, i64 0, i32 2
  store ptr %workspace, ptr %c2
  %c3 = getelementptr %Call, ptr %call, i64 0, i32 3
  store ptr %in.pointers, ptr %c3
  %c4 = getelementptr %Call, ptr %call, i64 0, i32 4
  store ptr %out.pointers, ptr %c4
  %c5 = getelementptr %Call, ptr %call, i64 0, i32 5
  store ptr %symbols, ptr %c5
  %for.at = getelementptr %Run, ptr %run, i64 0, i32 9
  %for = load ptr, ptr %for.at
  %c6 = getelementptr %Call, ptr %call, i64 0, i32 6
  store ptr %for, ptr %c6
  %pool.at = getelementptr %Run, ptr %run, i64 0, i32 10
  %pool = load ptr, ptr %pool.at
  %c7 = getelementptr %Call, ptr %call, i64 0, i32 7
  store ptr %pool, ptr %c7
  %c8 = getelementptr %Call, ptr %call, i64 0, i32 8
  store ptr %state, ptr %c8
  %function.at = getelementptr %Entry, ptr %this, i64 0, i32 7
  %function = load ptr, ptr %function.at
  %result = call i32 @model_invoke(ptr %function, ptr %call)
  ret i32 %result
}
