# Finds the shader compiler and proves at configure time that it is new enough for Unicorn's
# shaders. The Vulkan back-end itself comes later; this part of its set-up is checked already, so
# that a machine that could not build it says so now. Sets UNICORN_GLSLC and
# UNICORN_SPIRV_VAL.

set(UNICORN_SHADER_TOOLS "${CMAKE_SOURCE_DIR}/build/shader-tools" CACHE PATH
  "Folder of scripts/shader-tools (Debian 12), looked at before the system's own tools")

function(unicorn_find_shader_tool variable program)
  find_program(${variable} ${program} PATHS "${UNICORN_SHADER_TOOLS}/bin" NO_DEFAULT_PATH)
  find_program(${variable} ${program})
endfunction()
unicorn_find_shader_tool(UNICORN_GLSLC glslc)
unicorn_find_shader_tool(UNICORN_SPIRV_VAL spirv-val)

# Ends the configure step with what went wrong and what to do; the tools are looked for again
# the next time.
function(unicorn_shader_tools_failed)
  unset(UNICORN_GLSLC CACHE)
  unset(UNICORN_SPIRV_VAL CACHE)
  message(FATAL_ERROR "Shader tools: ${ARGV}\n"
    "Run scripts/setup, which installs or unpacks what scripts/packages lists, and configure "
    "again. (A build tree other than build/: set BUILD_DIR for scripts/setup and pass "
    "-DUNICORN_SHADER_TOOLS=<BUILD_DIR>/shader-tools here.) "
    "To build without Vulkan, configure with -DUNICORN_VULKAN=OFF.")
endfunction()

if(NOT UNICORN_GLSLC OR NOT UNICORN_SPIRV_VAL)
  unicorn_shader_tools_failed("glslc and spirv-val are needed, and one of them is not there")
endif()

set(shader_check "${CMAKE_CURRENT_LIST_DIR}/shader_check.comp")
set(shader_check_binary "${CMAKE_BINARY_DIR}/shader_check.spv")
execute_process(
  COMMAND "${UNICORN_GLSLC}" --target-env=vulkan1.3 -o "${shader_check_binary}" "${shader_check}"
  RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(NOT result EQUAL 0)
  unicorn_shader_tools_failed("${UNICORN_GLSLC} cannot compile ${shader_check}; it is probably "
    "too old (shaderc 2023.8 is new enough)\n${output}")
endif()
execute_process(
  COMMAND "${UNICORN_SPIRV_VAL}" --target-env vulkan1.3 "${shader_check_binary}"
  RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(NOT result EQUAL 0)
  unicorn_shader_tools_failed("${UNICORN_SPIRV_VAL} refuses what ${UNICORN_GLSLC} made of "
    "${shader_check}\n${output}")
endif()
message(STATUS "Shader tools: ${UNICORN_GLSLC}")
