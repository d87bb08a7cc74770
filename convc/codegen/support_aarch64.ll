; What the support code needs of AArch64, without inline assembly: LLVM's bundled libraries parse only the
; build machine's own, and these objects are also made elsewhere.

define internal void @model_pause() {
  call void @llvm.aarch64.hint(i32 1) ; yield
  ret void
}

define internal i64 @model_clock() {
  %now = call i64 @llvm.readsteadycounter()
  ret i64 %now
}

; 50 microseconds: the counter's frequency / 20000.
define internal i64 @model_spin_ticks() {
  %frequency = call i64 @llvm.read_volatile_register.i64(metadata !0)
  %ticks = udiv i64 %frequency, 20000
  ret i64 %ticks
}

define internal i32 @model_fp_enter() {
  %old = call i64 @llvm.aarch64.get.fpcr()
  call void @llvm.aarch64.set.fpcr(i64 0) ; nearest even, denormals kept
  %mode = trunc i64 %old to i32
  ret i32 %mode
}

define internal void @model_fp_leave(i32 %mode) {
  %wide = zext i32 %mode to i64
  call void @llvm.aarch64.set.fpcr(i64 %wide)
  ret void
}

declare void @llvm.aarch64.hint(i32)
declare i64 @llvm.readsteadycounter()
declare i64 @llvm.read_volatile_register.i64(metadata)
declare i64 @llvm.aarch64.get.fpcr()
declare void @llvm.aarch64.set.fpcr(i64)
!0 = !{!"cntfrq_el0"}
