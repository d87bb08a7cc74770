; What the support code needs of x86-64, and the CPU check, built for the baseline.

define internal void @model_pause() {
  call void @llvm.x86.sse2.pause()
  ret void
}

define internal i64 @model_clock() {
  %now = call i64 @llvm.readcyclecounter()
  ret i64 %now
}

; 50 microseconds of a 2 GHz time stamp counter, the slowest in use: no thread spins longer.
define internal i64 @model_spin_ticks() {
  ret i64 100000
}

define internal i32 @model_fp_enter() {
  %mode.at = alloca i32
  %old.at = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %old.at)
  %old = load i32, ptr %old.at
  store i32 8064, ptr %mode.at ; 0x1f80: all exceptions masked, round to nearest even, denormals kept
  call void @llvm.x86.sse.ldmxcsr(ptr %mode.at)
  ret i32 %old
}

define internal void @model_fp_leave(i32 %mode) {
  %mode.at = alloca i32
  store i32 %mode, ptr %mode.at
  call void @llvm.x86.sse.ldmxcsr(ptr %mode.at)
  ret void
}

; The register `which` (0 eax, 1 ebx, 2 ecx, 3 edx) that the CPUID instruction gives for a leaf; 0 past the last leaf.
define internal i32 @model_cpuid(i32 %leaf, i32 %subleaf, i32 %which) {
entry:
  %family = and i32 %leaf, -2147483648
  %top = call { i32, i32, i32, i32 } asm sideeffect "cpuid", "={ax},={bx},={cx},={dx},{ax},{cx}"(i32 %family, i32 0)
  %last = extractvalue { i32, i32, i32, i32 } %top, 0
  %known = icmp ule i32 %leaf, %last
  br i1 %known, label %ask, label %none

none:
  ret i32 0

ask:
  %r = call { i32, i32, i32, i32 } asm sideeffect "cpuid", "={ax},={bx},={cx},={dx},{ax},{cx}"(i32 %leaf, i32 %subleaf)
  %a = extractvalue { i32, i32, i32, i32 } %r, 0
  %b = extractvalue { i32, i32, i32, i32 } %r, 1
  %c = extractvalue { i32, i32, i32, i32 } %r, 2
  %d = extractvalue { i32, i32, i32, i32 } %r, 3
  switch i32 %which, label %none [ i32 0, label %eax
    i32 1, label %ebx
    i32 2, label %ecx
    i32 3, label %edx ]

eax:
  ret i32 %a
ebx:
  ret i32 %b
ecx:
  ret i32 %c
edx:
  ret i32 %d
}

; The register states that the operating system saves (XCR0); 0 where it can't be asked.
define internal i32 @model_saved_states() {
entry:
  %features = call i32 @model_cpuid(i32 1, i32 0, i32 2)
  %osxsave = and i32 %features, 134217728
  %can = icmp ne i32 %osxsave, 0
  br i1 %can, label %ask, label %none

ask:
  %r = call { i32, i32 } asm sideeffect "xgetbv", "={ax},={dx},{cx}"(i32 0)
  %low = extractvalue { i32, i32 } %r, 0
  ret i32 %low

none:
  ret i32 0
}

; A requirement: the 1-based bit `mark` unless the CPUID bit is there and the system saves the states.
define internal i64 @model_lacks(i32 %leaf, i32 %subleaf, i32 %which, i32 %bit, i32 %states, i64 %mark) {
  %register = call i32 @model_cpuid(i32 %leaf, i32 %subleaf, i32 %which)
  %mask = shl i32 1, %bit
  %there = and i32 %register, %mask
  %has = icmp ne i32 %there, 0
  %saved = call i32 @model_saved_states()
  %kept = and i32 %saved, %states
  %usable = icmp eq i32 %kept, %states
  %ok = and i1 %has, %usable
  %result = select i1 %ok, i64 0, i64 %mark
  ret i64 %result
}

declare void @llvm.x86.sse2.pause()
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
declare i64 @llvm.readcyclecounter()
