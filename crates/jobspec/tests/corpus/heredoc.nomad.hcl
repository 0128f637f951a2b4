job "heredoc" {
  group "g" {
    task "t" {
      driver = "exec"
      config {
        command = "/bin/sh"
        args = ["-c", <<EOS
set -e
  echo $HOME "$${USER}" ${NOMAD_TASK_NAME}
EOS
        ]
      }
      env {
        PLAIN = <<EOS
  kept
	tab
EOS
        DEDENT = <<-EOS
          a

            b
          c
        EOS
        LOOP = <<-EOS
          %{ for x in ["p", "q"] ~}
          line ${x}
          %{ endfor ~}
          end
        EOS
        IF = <<-EOS
          x
          %{ if true }yes%{ else }no%{ endif }
        EOS
      }
    }
  }
}
