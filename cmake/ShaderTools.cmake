# Finds the shader compiler and the Vulkan headers, and proves at configure time that they are new
# enough for Unicorn's shaders. Sets UNICORN_GLSLC, UNICORN_SPIRV_VAL and UNICORN_VULKAN_HEADERS, and
# defines unicorn_shaders().

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
  unset(UNICORN_VULKAN_HEADERS CACHE)
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

# Only headers: volk opens the loader at run time, and its and VMA's bodies are compiled by
# backends/vulkan/third_party.cpp.
find_path(UNICORN_VULKAN_HEADERS vk_mem_alloc.h
  PATHS "${UNICORN_SHADER_TOOLS}/unpacked/usr/include" NO_DEFAULT_PATH)
find_path(UNICORN_VULKAN_HEADERS vk_mem_alloc.h)
foreach(header vulkan/vulkan_core.h volk.h volk.c vk_mem_alloc.h)
  if(NOT EXISTS "${UNICORN_VULKAN_HEADERS}/${header}")
    unicorn_shader_tools_failed("the header ${header} is not there")
  endif()
endforeach()
file(STRINGS "${UNICORN_VULKAN_HEADERS}/vulkan/vulkan_core.h" matrices
  REGEX "VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME")
if(NOT matrices)
  unicorn_shader_tools_failed("the Vulkan headers in ${UNICORN_VULKAN_HEADERS} are too old: they "
    "know no cooperative matrices (1.3.255 and newer do)")
endif()
add_library(unicorn_vulkan_headers INTERFACE)
target_include_directories(unicorn_vulkan_headers SYSTEM INTERFACE "${UNICORN_VULKAN_HEADERS}")
target_compile_definitions(unicorn_vulkan_headers INTERFACE VK_NO_PROTOTYPES)
# Vulkan's structures are filled field by field after their sType.
target_compile_options(unicorn_vulkan_headers INTERFACE -Wno-missing-field-initializers)
target_link_libraries(unicorn_vulkan_headers INTERFACE ${CMAKE_DL_LIBS})

# unicorn_shaders(backends/vulkan tier_read.comp [...]): compiles GLSL beside the sources of that
# library into arrays of SPIR-V. C++ includes "backends/vulkan/tier_read.comp.h" and finds
# unicorn::shaders::kTierRead. A shader includes by path from src/, as C++ does; it is compiled again
# when what it includes has changed, and the build fails on what spirv-val refuses.
function(unicorn_shaders name)
  string(REPLACE "/" "_" target "unicorn_${name}")
  set(folder "${CMAKE_BINARY_DIR}/shaders/${name}")
  file(MAKE_DIRECTORY "${folder}")
  set(embed "${CMAKE_SOURCE_DIR}/cmake/embed_shader.cmake")
  foreach(source IN LISTS ARGN)
    get_filename_component(shader "${source}" NAME_WLE)
    set(spirv "${folder}/${shader}.spv")
    set(header "${folder}/${source}.h")
    add_custom_command(OUTPUT "${header}"
      COMMAND "${UNICORN_GLSLC}" -O --target-env=vulkan1.3 -I "${CMAKE_SOURCE_DIR}/src"
        -MD -MF "${spirv}.d" -MT "${header}" -o "${spirv}" "${CMAKE_CURRENT_SOURCE_DIR}/${source}"
      COMMAND "${UNICORN_SPIRV_VAL}" --target-env vulkan1.3 "${spirv}"
      COMMAND "${CMAKE_COMMAND}" "-DSPIRV=${spirv}" "-DHEADER=${header}" "-DSHADER=${shader}"
        -P "${embed}"
      DEPENDS "${source}" "${embed}"
      DEPFILE "${spirv}.d"
      COMMENT "Shader ${name}/${source}"
      VERBATIM)
    target_sources(${target} PRIVATE "${header}")
  endforeach()
  target_include_directories(${target} PUBLIC "${CMAKE_BINARY_DIR}/shaders")
endfunction()
