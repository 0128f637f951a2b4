job "fn-collections" {
  meta = {
    f00 = jsonencode(length([1, 2]))
    f01 = jsonencode(length(keys({ a = 1 })))
    f02 = jsonencode(strlen("héllo"))
    f03 = jsonencode(chunklist(["a", "b", "c"], 2))
    f04 = jsonencode(coalescelist([], ["a"]))
    f05 = jsonencode(compact(["a", "", "b"]))
    f06 = jsonencode(concat(["a"], [], ["b"]))
    f07 = jsonencode(contains(["a"], "b"))
    f08 = jsonencode(distinct(["a", "b", "a"]))
    f09 = jsonencode(element(["a", "b", "c"], 4))
    f10 = jsonencode(flatten([["a"], [], ["b", ["c"]]]))
    f11 = jsonencode(index(["a", "b"], 1))
    f12 = jsonencode(keys({ z = 1, a = 2 }))
    f13 = jsonencode(values({ z = 1, a = 2 }))
    f14 = jsonencode(lookup({ a = "x" }, "a", "d"))
    f15 = jsonencode(merge({ a = 1, b = 2 }, { b = 3 }))
    f16 = jsonencode(range(3))
    f17 = jsonencode(range(1, 7, 2))
    f18 = jsonencode(reverse("ab"))
    f19 = jsonencode(slice(["a", "b", "c", "d"], 1, 3))
    f20 = jsonencode(sort(["b", "a", "C"]))
    f21 = jsonencode(zipmap(["a", "b"], [1, 2]))
    f22 = jsonencode(setproduct(["a"], ["x", "y"]))
    f23 = jsonencode(setintersection(["a", "b"], ["b", "c"]))
    f24 = jsonencode(setunion(["b"], ["a", "b"]))
    f25 = jsonencode([for s in ["a", "bb"] : upper(s)])
    f26 = jsonencode({ for s in ["a", "bb"] : s => strlen(s) })
    f27 = jsonencode({ for s in ["a1", "a2", "b1"] : substr(s, 0, 1) => s... })
    f28 = jsonencode([for i, s in ["x", "y"] : "${i}:${s}" if s != "x"])
    f29 = jsonencode([{ n = 1 }, { n = 2 }][*].n)
    f30 = jsonencode([{ n = { m = 1 } }].*.n.m)
    f31 = jsonencode(["a", "b"][1])
    f32 = jsonencode({ a = { b = "c" } }.a.b)
    f33 = jsonencode({ "a b" = 1 }["a b"])
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
