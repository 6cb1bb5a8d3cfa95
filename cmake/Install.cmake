# `cmake --install <build folder> --prefix <where>`: one binary, the bundled model, hardware
# profiles, the licence, and the man pages and completions that the binary itself writes.

include(GNUInstallDirs)

# The build folder looks like an installation, so that the binary finds the bundled model by the
# same rule in both: ../share/unicorn/models from where it lies.
set_target_properties(unicorn PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
file(MAKE_DIRECTORY "${CMAKE_BINARY_DIR}/share/unicorn")
file(CREATE_LINK "${CMAKE_SOURCE_DIR}/models" "${CMAKE_BINARY_DIR}/share/unicorn/models" SYMBOLIC)
file(CREATE_LINK "${CMAKE_SOURCE_DIR}/profiles" "${CMAKE_BINARY_DIR}/share/unicorn/profiles" SYMBOLIC)

install(TARGETS unicorn RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
install(DIRECTORY "${CMAKE_SOURCE_DIR}/models/" DESTINATION "${CMAKE_INSTALL_DATADIR}/unicorn/models"
  FILES_MATCHING PATTERN "*.gguf" PATTERN "README.md")
install(DIRECTORY "${CMAKE_SOURCE_DIR}/profiles/"
  DESTINATION "${CMAKE_INSTALL_DATADIR}/unicorn/profiles" FILES_MATCHING PATTERN "*.toml")
install(FILES "${CMAKE_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DOCDIR}")

set(generated "${CMAKE_BINARY_DIR}/generated")
install(CODE "
  file(REMOVE_RECURSE \"${generated}\")
  file(MAKE_DIRECTORY \"${generated}/man\")
  execute_process(COMMAND \"$<TARGET_FILE:unicorn>\" man-pages \"${generated}/man\"
    COMMAND_ERROR_IS_FATAL ANY)
  foreach(shell bash zsh fish)
    execute_process(COMMAND \"$<TARGET_FILE:unicorn>\" completions \${shell}
      OUTPUT_FILE \"${generated}/\${shell}\" COMMAND_ERROR_IS_FATAL ANY)
  endforeach()")
install(DIRECTORY "${generated}/man/" DESTINATION "${CMAKE_INSTALL_MANDIR}/man1")
install(FILES "${generated}/bash" RENAME unicorn
  DESTINATION "${CMAKE_INSTALL_DATADIR}/bash-completion/completions")
install(FILES "${generated}/zsh" RENAME _unicorn
  DESTINATION "${CMAKE_INSTALL_DATADIR}/zsh/site-functions")
install(FILES "${generated}/fish" RENAME unicorn.fish
  DESTINATION "${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d")
