job "functions2" {
  meta = {
    f00 = jsonencode(coalesce("", "b"))
    f01 = jsonencode(element(["a","b"], -1))
    f02 = jsonencode(element(["a"], 3))
    f03 = jsonencode(substr("hello", -3, 2))
    f04 = jsonencode(title("a-b c_d"))
    f05 = jsonencode(contains(["1"], 1))
    f06 = jsonencode(distinct([1,"1",1]))
    f07 = jsonencode(range(3,0))
    f08 = jsonencode(merge({a=1},{a=2,b=3}))
    f09 = jsonencode(lookup({a=1},"b","x"))
    f10 = jsonencode(setunion(["b"],["a"]))
    f11 = jsonencode(split("", "ab"))
    f12 = jsonencode(split(",", ""))
    f13 = jsonencode(compact(["a","",null]))
    f14 = jsonencode(flatten([[1,[2]],3]))
    f15 = jsonencode(join(",", [1,true]))
    f16 = jsonencode(log(100,10))
    f17 = jsonencode(format("%5s|%-5s|%05d|%x|%g", "a","b",42,255,1.5))
    f18 = jsonencode(strlen("né"))
    f19 = jsonencode(indent(2, "a\nb"))
    f20 = jsonencode(formatdate("DD MMM YY, hh:mm AA", "2024-02-03T14:05:06+02:00"))
    f21 = jsonencode(timeadd("2024-01-01T00:00:00Z","1h30m"))
    f22 = jsonencode(keys({b=1,a=2}))
    f23 = jsonencode(chunklist([1,2],0))
    f24 = jsonencode(zipmap(["a"],[1]))
    f25 = jsonencode(true ? null : 1)
    f26 = jsonencode(true ? [1] : ["x"])
    f27 = jsonencode([for k,v in {b=1,a=2} : k])
    f28 = jsonencode(regex_replace("abab","a","$0x"))
    f29 = jsonencode(regex_replace("abab","(?P<n>a)","${n}"))
    f30 = jsonencode(max("3",2))
    f31 = jsonencode(1.10)
    f33 = jsonencode(null == "x")
    f34 = jsonencode(trim("xxaxx","x"))
    f35 = jsonencode(urlencode("a b/ö"))
    f36 = jsonencode(title("it's"))
    f37 = jsonencode(cidrhost("::1/64", 5))
    f38 = jsonencode(parseint("ff",16))
    f39 = jsonencode(floor(-1.5))
    f40 = jsonencode(reverse("é1"))
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
