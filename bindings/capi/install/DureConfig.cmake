# find_package(Dure) defines the imported target Dure::dure.
get_filename_component(_dure_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
if(NOT TARGET Dure::dure)
  add_library(Dure::dure SHARED IMPORTED)
  set_target_properties(Dure::dure PROPERTIES
    IMPORTED_LOCATION "${_dure_prefix}/lib/libdure.so.@VERSION@"
    IMPORTED_SONAME "libdure.so.@ABI@"
    INTERFACE_INCLUDE_DIRECTORIES "${_dure_prefix}/include")
endif()
unset(_dure_prefix)
