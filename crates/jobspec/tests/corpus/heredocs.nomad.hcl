job "heredocs" {
  meta {
    plain     = <<EOF
one
  two ${"x"}
EOF
    indented  = <<-EOF
      one
        two
      three
    EOF
    directive = <<-EOF
      %{for n in ["a", "b"]~}
      - ${n}
      %{endfor~}
      %{if true}end%{endif}
    EOF
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
