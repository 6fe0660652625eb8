// What kernel/registers.py has as bytes for arm64: waits for children one after the other in a thread that is borrowed.
// Enter with x19 = the head (start + 0x10000), x20 = the first pid, w21 = how many. A pid is replaced by wait4's answer.
// Head: +0 done, +8 timespec, +24 signal mask, +32 stack pointer, +40 program counter; +0x8000 x0 … x30, pstate.
	.text
start:
1:	cbz w21, 2f
	ldr w0, [x20]
	mov x1, xzr
	mov w2, #1
	movk w2, #0x4000, lsl #16	// WNOHANG | __WALL
	mov x3, xzr
	mov x8, #260			// wait4
	svc #0
	str w0, [x20], #4
	sub w21, w21, #1
	b 1b
2:	mov w0, #1
	str w0, [x19]
	mov x0, xzr			// The tracer stops it in here and gives its registers back.
	mov x1, xzr
	add x2, x19, #8
	mov x3, xzr
	mov x4, xzr
	mov x8, #73			// ppoll
	svc #0
	mov x0, #2			// It did not: it is gone. Back without it; SIG_SETMASK
	add x1, x19, #24
	mov x2, xzr
	mov x3, #8
	mov x8, #135			// rt_sigprocmask
	svc #0
	ldr x16, [x19, #32]
	mov sp, x16
	mov x17, x19
	mov x16, #0x8000
	add x16, x17, x16
	ldr x0, [x16, #248]		// pstate: of its flags only
	msr nzcv, x0
	ldp x0, x1, [x16]
	ldp x2, x3, [x16, #16]
	ldp x4, x5, [x16, #32]
	ldp x6, x7, [x16, #48]
	ldp x8, x9, [x16, #64]
	ldp x10, x11, [x16, #80]
	ldp x12, x13, [x16, #96]
	ldp x14, x15, [x16, #112]
	ldp x18, x19, [x16, #144]
	ldp x20, x21, [x16, #160]
	ldp x22, x23, [x16, #176]
	ldp x24, x25, [x16, #192]
	ldp x26, x27, [x16, #208]
	ldp x28, x29, [x16, #224]
	ldr x30, [x16, #240]
	ldr x17, [x17, #40]		// x17 is lost: there is no jump that needs no register
	ldr x16, [x16, #128]
	br x17
