include(CMakeParseArguments)
set(STAND_IN ${CMAKE_CURRENT_LIST_DIR})

macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MODULE "WITH_GENERIC_TESTS;WITH_SUBDIR" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(MODULE_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "unknown arguments: ${MODULE_UNPARSED_ARGUMENTS}")
  endif()
  foreach(file ${MODULE_SCRIPTS} ${MODULE_RESOURCES})
    if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${file})
      message(FATAL_ERROR "${file} is listed but does not exist")
    endif()
  endforeach()
  set_property(GLOBAL PROPERTY EXTENSION_SCRIPTS "${MODULE_SCRIPTS}")
  set_property(GLOBAL PROPERTY EXTENSION_RESOURCES "${MODULE_RESOURCES}")
endmacro()

# As CMake/SlicerMacroPythonTesting.cmake of Slicer, with another program
macro(slicer_add_python_unittest)
  cmake_parse_arguments(MY "" "TESTNAME_PREFIX;SCRIPT" "SLICER_ARGS" ${ARGN})
  get_filename_component(test_name ${MY_SCRIPT} NAME_WE)
  add_test(
    NAME py_${MY_TESTNAME_PREFIX}${test_name}
    COMMAND ${SLICER_STAND_IN_PYTHON} ${STAND_IN}/launcher.py --no-splash --ignore-slicerrc ${MY_SLICER_ARGS}
    --python-code "import slicer.testing; slicer.testing.runUnitTest(['${CMAKE_CURRENT_BINARY_DIR}', '${CMAKE_CURRENT_SOURCE_DIR}'], '${test_name}')"
    )
endmacro()

if(BUILD_TESTING)
  enable_testing()
endif()
