job "fn-numbers" {
  meta = {
    f00 = jsonencode(abs(-3))
    f01 = jsonencode(abs(2.5))
    f02 = jsonencode(ceil(1.1))
    f03 = jsonencode(floor(1.9))
    f04 = jsonencode(log(16, 2))
    f05 = jsonencode(max(1, 5, 3))
    f06 = jsonencode(min(4, 2))
    f07 = jsonencode(pow(2, 10))
    f08 = jsonencode(signum(-7))
    f09 = jsonencode(signum(0))
    f10 = jsonencode(parseint("-42", 10))
    f11 = jsonencode(parseint("zz", 36))
    f12 = jsonencode(7 / 2)
    f13 = jsonencode(7 % 3)
    f14 = jsonencode(-7 % 3)
    f15 = jsonencode(1e3)
    f16 = jsonencode(0.1 + 0.2)
    f17 = jsonencode(10 - 2 - 3)
    f18 = jsonencode(2 * 3 + 4)
    f19 = jsonencode(2 + 3 * 4)
    f20 = jsonencode((2 + 3) * 4)
    f21 = jsonencode(1 < 2 && 2 <= 2)
    f22 = jsonencode(1 > 2 || 3 >= 3)
    f23 = jsonencode(!true)
    f24 = jsonencode(1 == 1.0)
    f25 = jsonencode(1 != 2)
    f26 = jsonencode("1" == 1)
  }
  group "g" {
    task "t" {
      driver = "exec"
      config {
        command = "/bin/true"
      }
    }
  }
}
